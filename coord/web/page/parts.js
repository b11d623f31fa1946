// What several screens draw: states, rows of changes, values, sparklines, what stands where there is nothing.

import {html, nothing, svg} from './vendor/lit-html.js';
import {to, toKey} from './place.js';
import {clock, count, escaped, inLine, isPlain, shown} from './text.js';

// States of a key: a shape, a word and a colour for each, so that none is told by colour alone.
const SHAPES = {
  fired: svg`<circle cx="6" cy="6" r="4.5" fill="currentColor"/>`,
  held: svg`<circle cx="6" cy="6" r="4.25" fill="none" stroke="currentColor" stroke-width="1.5"/>
    <circle cx="6" cy="6" r="1.9" fill="currentColor"/>`,
  locked: svg`<rect x="1.75" y="5.25" width="8.5" height="5.75" rx="1" fill="currentColor"/>
    <path d="M3.75 5.5V3.9a2.25 2.25 0 0 1 4.5 0v1.6" fill="none" stroke="currentColor" stroke-width="1.5"/>`,
  failed: svg`<path d="M2.25 2.25l7.5 7.5M9.75 2.25l-7.5 7.5" stroke="currentColor" stroke-width="2" stroke-linecap="round"/>`,
  corrupt: svg`<path d="M6 1l5.4 9.75H.6z" fill="currentColor"/>`,
  waiting: svg`<path d="M2.5 1.25h7M2.5 10.75h7M3.25 1.5c0 3 5.5 6 5.5 9M8.75 1.5c0 3-5.5 6-5.5 9"
    fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round"/>`,
  pulsed: svg`<path d="M.75 6.5h2.5l1.75-4.25 2.25 7.5 1.5-3.25h2.5" fill="none" stroke="currentColor" stroke-width="1.5"
    stroke-linejoin="round" stroke-linecap="round"/>`,
  counted: svg`<path d="M2.5 2v8M5 2v8M7.5 2v8M10 2v8" stroke="currentColor" stroke-width="1.4" stroke-linecap="round"/>`,
  expired: svg`<circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" stroke-width="1.4"/>
    <path d="M6 3.5V6l1.75 1.25" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round"/>`,
  withdrawn: svg`<circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" stroke-width="1.4"/>
    <path d="M3.75 6h4.5" stroke="currentColor" stroke-width="1.4" stroke-linecap="round"/>`,
  reset: svg`<path d="M2.2 4.4A4.3 4.3 0 1 1 1.9 7.4M2.1 1.6v3h3" fill="none" stroke="currentColor" stroke-width="1.4"
    stroke-linecap="round" stroke-linejoin="round"/>`,
  pending: svg`<circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" stroke-width="1.4" stroke-dasharray="2 1.6"/>`,
  warning: svg`<path d="M6 .9l5.3 9.85H.7z" fill="none" stroke="currentColor" stroke-width="1.3" stroke-linejoin="round"/>
    <path d="M6 4.4v2.9M6 8.9v.3" stroke="currentColor" stroke-width="1.4" stroke-linecap="round"/>`,
  well: svg`<path d="M2 6.5l2.75 2.75L10 3.5" fill="none" stroke="currentColor" stroke-width="1.9" stroke-linecap="round"
    stroke-linejoin="round"/>`,
};

const COLOURS = {
  fired: 'good', held: 'good', locked: 'good', failed: 'bad', corrupt: 'bad', waiting: 'warn', warning: 'warn', well: 'good',
};

/** The word for what a record says: its kind, or how it is latched. A missing record is pending. */
export function state(record) {
  if (!record || !record.kind) return record?.corrupt ? 'corrupt' : 'pending';
  if (record.kind === 'fired' && record.held) return record.token ? 'locked' : 'held';
  return record.kind;
}

/** What a change did: a passing is none of the record's kinds. */
export const happened = (record) => (record.passed ? 'passed' : state(record));

/** A shape alone, where the word stands beside it. */
export const glyph = (name) =>
  html`<svg class="glyph ${COLOURS[name] ?? ''}" viewBox="0 0 12 12" aria-hidden="true">${SHAPES[name] ?? SHAPES.pending}</svg>`;

/** Shape and word of a state. */
export const badge = (name, word = name) => html`<span class="state ${COLOURS[name] ?? ''}">${glyph(name)}${word}</span>`;

const WITHOUT_VALUE = ['reset', 'expired', 'withdrawn'];

/** The value of a record in one line; a failure's reason as it is. */
export function value(record) {
  if (!record?.kind || WITHOUT_VALUE.includes(record.kind)) return html`<span class="none">–</span>`;
  if (record.value_omitted) return html`<span class="none">too large for the history</span>`;
  const text = inLine(record.value);
  return html`<code class="value" title=${isPlain(text) ? text : escaped(text)}>${shown(text)}</code>`;
}

/** A link to a key. */
export const keyLink = (map, key, label = key) =>
  html`<a class="key" href=${toKey(map, key)} title=${escaped(key)}>${shown(label)}</a>`;

/** A link to a map. */
export const mapLink = (map) =>
  map === '@members' ? html`<a href=${to('members')}>members</a>` : html`<a href=${to('map', map)}>${map}</a>`;

/** One change in a table of changes. */
export const changeRow = (record) => html`<tr>
  <td class="time"><time datetime=${new Date(record.time * 1000).toISOString()}>${clock(record.time)}</time></td>
  <td class="what">${badge(state(record), happened(record))}</td>
  <td class="where"><span class="map">${mapLink(record.map)}</span> ${keyLink(record.map, record.key)}</td>
  <td class="with">${value(record)}</td>
  <td class="who">${record.node ?? ''}</td>
</tr>`;

/** A table of changes. */
export const changes = (caption, rows, sections = [html`<tbody>${rows}</tbody>`]) => html`<table class="changes">
  <caption class="unseen">${caption}</caption>
  <thead><tr><th scope="col">Time</th><th scope="col">Change</th><th scope="col">Map and key</th><th scope="col">Value</th>
    <th scope="col">Node</th></tr></thead>
  ${sections}
</table>`;

/** What stands where there is nothing: what it means, and what to do next. */
export const empty = (words, next = nothing) => html`<p class="empty">${words}${next === nothing ? nothing : html` ${next}`}</p>`;

/** A refusal of the gateway in words. */
export const refused = (problem) => {
  if (problem.status === 0) return 'The gateway does not answer.';
  if (problem.status === 403 || problem.status === 404) return 'This token may not read it.';
  return `${problem.message}.`.replace(/\.\.$/, '.');
};

const WIDTH = 90;
const HEIGHT = 20;

/** Changes a minute as a line, with its words for who cannot see it. */
export function sparkline(counts) {
  const most = Math.max(...counts, 1);
  const total = counts.reduce((sum, each) => sum + each, 0);
  const points = counts.map((each, index) => {
    const x = 1 + (index * (WIDTH - 2)) / (counts.length - 1);
    return `${x.toFixed(1)},${(HEIGHT - 2 - (each / most) * (HEIGHT - 4)).toFixed(1)}`;
  });
  const label = `${count(total, 'change')} seen in 15 min, at most ${Math.max(...counts)} a minute`;
  return html`<svg class=${total ? 'sparkline' : 'sparkline quiet'} viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${label}>
    <title>${label}</title>
    ${svg`<polyline points=${points.join(' ')} fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round"/>`}
  </svg>`;
}
