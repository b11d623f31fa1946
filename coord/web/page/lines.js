// The lines of a shell that do what a button does. They are copied into the shells of operators, and keys and values
// come from anybody: each word is quoted for a POSIX shell, and nothing invisible is in it.

import {percentEncoded, query} from './api.js';
import {isPlain} from './text.js';

const BARE = /^[A-Za-z0-9_@%+=:,./-]+$/;
const VISIBLE_BYTE = /[A-Za-z0-9_@+=:,./ -]/;

/** One word for sh. What would not be seen is written as bytes for printf. */
export function quoted(word) {
  if (BARE.test(word)) return word;
  if (isPlain(word)) return `'${word.replaceAll("'", "'\\''")}'`;
  const bytes = Array.from(new TextEncoder().encode(word), (byte) => {
    const character = String.fromCharCode(byte);
    return VISIBLE_BYTE.test(character) ? character : `\\${byte.toString(8).padStart(3, '0')}`;
  });
  // A format that begins with a dash would be an option.
  return `"$(printf -- '${bytes.join('')}')"`;
}

/** A value as JSON in ASCII: other characters are escaped, so that what is copied is what is seen. */
export const asciiJson = (value) =>
  JSON.stringify(value).replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);

// Options of `coord` for the parameters of a call.
const OPTIONS = {ttl: (value) => ['--ttl', `${value}s`], evict: () => ['--evict'], revision: (value) => ['--revision', value]};

/**
 * The line for `coord`.
 *
 * @param {{verb: string, map: string, key: string, value?: unknown, options?: object}} call
 * @param {{server?: string, namespace?: string}} where
 */
export function coordLine(call, where) {
  const options = Object.entries(call.options ?? {}).flatMap(([name, value]) => OPTIONS[name](value));
  const words = ['coord', call.verb];
  if (where.server) words.push('--url', where.server);
  if (where.namespace) words.push('--namespace', where.namespace);
  words.push(...options, '--', call.map, call.key);
  if (call.value !== undefined) words.push(asciiJson(call.value));
  return words.map(quoted).join(' ');
}

/**
 * The line for curl. The token stands in the environment, so that it ends up in no history of a shell.
 *
 * @param {string} once the Idempotency-Key: a repetition of the line is not a second call
 */
export function curlLine(call, where, once) {
  const {revision, ...parameters} = call.options ?? {};
  const url = `${where.api}maps/${percentEncoded(call.map)}/${call.verb}?${query({key: call.key, ...parameters})}`;
  const words = ['curl', '-sS', '-X', 'POST', '-H', `Idempotency-Key: ${once}`];
  if (revision) words.push('-H', `If-Match: "${revision}"`);
  if (call.value !== undefined) words.push('-d', asciiJson(call.value));
  const line = words.map(quoted).join(' ');
  const token = where.token ? ' -H "Authorization: Bearer $COORD_TOKEN"' : '';
  return `${line}${token} ${quoted(url)}`;
}
