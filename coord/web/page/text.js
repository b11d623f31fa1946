// Text from the cluster, made safe to look at, and times in words.

import {html} from './vendor/lit-html.js';

// What is invisible, changes the direction of text, or ends a line. A plain space is none of these.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Zl}\p{Zp}\p{DI}\u2800]|(?! )\p{Zs}/u;
const EACH_HIDDEN = new RegExp(HIDDEN, 'gu');

const escape = (character) => `\\u{${character.codePointAt(0).toString(16)}}`;

/** Whether a text shows all that it holds. */
export const isPlain = (text) => !HIDDEN.test(text);

/** The text with visible escapes, as plain text: for titles and labels. */
export const escaped = (text) => text.replace(EACH_HIDDEN, escape);

/** The text in <bdi>, its hidden characters as marked escapes. */
export function shown(text) {
  if (isPlain(text)) return html`<bdi>${text}</bdi>`;
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(EACH_HIDDEN)) {
    parts.push(text.slice(from, match.index), html`<span class="escape">${escape(match[0])}</span>`);
    from = match.index + match[0].length;
  }
  return html`<bdi>${[...parts, text.slice(from)]}</bdi>`;
}

const LONGEST_LINE = 300;

/** A value as one line of JSON, cut where no row shows more. */
export function inLine(value) {
  const text = JSON.stringify(value) ?? '';
  return text.length > LONGEST_LINE ? `${text.slice(0, LONGEST_LINE)}…` : text;
}

const STEPS = [[86400, 'd'], [3600, 'h'], [60, 'min'], [0, 's']];

/** A number of seconds in its largest unit: 42 s, 5 min, 3 h, 12 d. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [size, unit] = STEPS.find(([step]) => whole >= step);
  return `${size ? Math.floor(whole / size) : whole}\u00a0${unit}`;
}

// The server's clock minus ours, in seconds, as the last answer told.
let ahead = 0;

/** Learn the server's clock from a Date header; it tells whole seconds, so a small difference is none. */
export function learnClock(date) {
  const difference = date ? Date.parse(date) / 1000 - Date.now() / 1000 : NaN;
  if (Number.isFinite(difference)) ahead = Math.abs(difference) > 2 ? difference : 0;
}

/** The server's time, in seconds since 1970. */
export const now = () => Date.now() / 1000 + ahead;

/** How long ago a server's time was. */
export const age = (time) => duration(now() - time);

const two = (number) => String(number).padStart(2, '0');

/** A server's time in this zone: the time of day if it is today, else the date too. */
export function clock(time) {
  const then = new Date(time * 1000);
  const day = `${then.getFullYear()}-${two(then.getMonth() + 1)}-${two(then.getDate())}`;
  const hours = `${two(then.getHours())}:${two(then.getMinutes())}:${two(then.getSeconds())}`;
  return then.toDateString() === new Date().toDateString() ? hours : `${day} ${hours}`;
}

/** A server's time with its age, and the time in UTC on hover. */
export const when = (time) =>
  html`<time datetime=${new Date(time * 1000).toISOString()} title=${new Date(time * 1000).toISOString()}
    >${age(time)}</time>`;

/** A count with its word: 1 key, 10,000 keys. */
export const count = (number, word, words = `${word}s`) => `${digits(number)}\u00a0${number === 1 ? word : words}`;

/** A whole number with its thousands apart. The browser's own formatter takes 24 ms to begin with. */
export const digits = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ',');
