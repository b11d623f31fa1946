// Requests to the gateway: relative to the page, so that it works below any prefix.

import {learnClock} from './text.js';

/** Where the routes are, as an absolute address: for the lines that are copied. */
export const API = new URL('v1/', document.baseURI).href;

const {asked} = globalThis;
const TIMEOUT = 20_000;

/** A text as a part of an address. encodeURIComponent leaves some into which curl or a shell could read something. */
export const percentEncoded = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);

/** The query of a call, in the order of its members. */
export const query = (members) =>
  Object.entries(members).filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${percentEncoded(String(value))}`).join('&');

/** A refusal of the gateway (RFC 9457), or with status 0: no answer at all. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `status ${status}`);
    this.status = status;
    this.name = body.type?.split(/[/#:]/).pop() ?? '';
    this.body = body;
  }
}

let onUnauthorized = () => {};

/** Have a function called when the session is over. */
export const whenUnauthorized = (called) => (onUnauthorized = called);

let session = new AbortController();

/** The signal of this session: it aborts when another begins. */
export const thisSession = () => session.signal;

/** Let another session begin: what was asked in the one before is not answered. */
export function nextSession() {
  session.abort();
  asked.clear();
  session = new AbortController();
}

// An answer that comes after its session is dropped: so nothing that one user may read is shown to the next, and the
// refusal of an old token asks for no other. Whoever waits for the answer is gone with the session.
function inSession(asks, {quiet = false} = {}) {
  const {signal} = session;
  return new Promise((answer, refuse) => {
    asks(signal).then(
      (found) => signal.aborted || answer(found),
      (problem) => {
        if (signal.aborted) return;
        if (problem.status === 401 && !quiet) onUnauthorized();
        refuse(problem);
      },
    );
  });
}

/**
 * Ask the gateway.
 *
 * @param {{method?: string, query?: object, body?: unknown, headers?: object, signal?: AbortSignal, patient?: boolean, quiet?: boolean}} how
 *   `patient`: ask again when the gateway is busy with another listing of this user; `quiet`: a 401 is expected
 * @return {Promise<any>} the decoded body; null if there is none
 * @throws {Problem}
 */
export const ask = (path, how = {}) => inSession((ended) => body(path, how, ended), how);

async function body(path, how, ended) {
  let {response, text} = await answered(path, how, ended);
  for (let tries = 0; how.patient && response.status === 429 && tries < 10; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 250 + 500 * Math.random()));
    ({response, text} = await answered(path, how, ended));
  }
  learnClock(response.headers.get('Date'));
  if (response.ok) return text ? JSON.parse(text) : null;
  throw new Problem(response.status, problemIn(text));
}

async function answered(path, {method = 'GET', query: members = {}, body, headers = {}, signal}, ended) {
  const words = query(members);
  const url = `${API}${path}${words ? `?${words}` : ''}`;
  const limits = [ended, AbortSignal.timeout(TIMEOUT), ...(signal ? [signal] : [])];
  try {
    const begun = early(method, url);
    if (begun) return await begun;
    const response = await fetch(url, {
      method,
      headers: body === undefined ? headers : {'Content-Type': 'application/json', ...headers},
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
      signal: AbortSignal.any(limits),
    });
    return {response, text: await response.text()};
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, {title: 'the gateway does not answer'});
  }
}

// The answer to what first.js has asked: once, since the next time it would be old.
function early(method, url) {
  const answer = method === 'GET' ? asked.get(url) : undefined;
  asked.delete(url);
  return answer;
}

function problemIn(text) {
  try {
    const body = JSON.parse(text);
    return body && typeof body === 'object' ? body : {};
  } catch {
    return {};
  }
}

/** The path of something in a map. */
export const inMap = (map, what) => `maps/${encodeURIComponent(map)}/${what}`;

/** A new name for a call. */
export const newName = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Make a call as a dialog describes it; a repetition after a lost answer is not a second call. */
export async function make(call, once = newName()) {
  const {revision, ...parameters} = call.options ?? {};
  const headers = {'Idempotency-Key': once};
  if (revision) headers['If-Match'] = `"${revision}"`;
  const how = {method: 'POST', query: {key: call.key, ...parameters}, body: call.value, headers};
  try {
    return await ask(inMap(call.map, call.verb), how);
  } catch (error) {
    if (error.status !== 0) throw error;
    return ask(inMap(call.map, call.verb), how);
  }
}

/** Past changes of a map, the oldest first: its history up to now, and not what follows. */
export const past = (map, how = {}) => inSession((ended) => changes(map, how, ended));

async function changes(map, {prefix, signal}, ended) {
  const members = {map, prefix: prefix || undefined, since: 'start', follow: 'false'};
  const {response, text} = await answered('watch', {query: members, headers: {Accept: 'application/x-ndjson'}, signal}, ended);
  if (!response.ok) throw new Problem(response.status, problemIn(text));
  const lines = text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  return lines.filter((line) => !line.event && line.data).map((line) => line.data);
}
