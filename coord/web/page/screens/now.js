// The first screen: what is wrong, worst first, and what changed last.

import {html, nothing} from '../vendor/lit-html.js';
import {ask, inMap, Problem} from '../api.js';
import {allowedTo} from '../app.js';
import {changeRow, changes, empty, glyph} from '../parts.js';
import {to} from '../place.js';
import {compare} from '../positions.js';
import {link, locks, server, troubles} from '../status.js';
import {count, digits, duration, now as serverNow, when} from '../text.js';

const LOOK_EVERY = 10_000;
const MOST_LINES = 8;
const MOST_LOCKS = 20;
const LAST = 20;

let timer = null;
const unfolded = new Set();

export const now = {
  entered(app) {
    const look = () => document.hidden || lookFurther(app);
    look();
    clearInterval(timer);
    timer = setInterval(look, LOOK_EVERY);
  },
  left: () => clearInterval(timer),
  draw,
};

// What no listing and no stream tells: who waits for keys that have no record, and who queues.
async function lookFurther(app) {
  for (const name of app.store.names.slice(0, 16)) {
    if (allowedTo('read', name)) await app.store.readWaiting(name).catch(ignoreRefusals);
  }
  await Promise.all(app.store.names.slice(0, 16).map((name) => app.store.read(name)));
  const found = new Map();
  for (const {map, key} of locks(app).slice(0, MOST_LOCKS)) {
    const holders = await ask(inMap(map, 'holders'), {query: {key, limit: 2}}).catch(ignoreRefusals);
    if (holders) found.set(`${map}/${key}`, holders.count - 1);
  }
  app.queues = found;
  app.draw();
}

function ignoreRefusals(problem) {
  if (!(problem instanceof Problem)) throw problem;
}

function draw(app) {
  const groups = troubles(app);
  return html`<h1 tabindex="-1">Now</h1>
    ${facts(app)}
    ${groups.length ? groups.map((group) => section(app, group)) : well(app)}
    <h2>Last changes</h2>
    ${lastChanges(app)}`;
}

function facts(app) {
  const linked = link(app);
  const numbers = Object.fromEntries(troubles(app).map((group) => [group.glyph, group.count]));
  const alive = app.members?.filter(({kind}) => kind === 'fired').length;
  const records = app.store.names.reduce((sum, name) => sum + app.store.map(name).records.size, 0);
  const minute = app.store.recent.filter(({record}) => record && record.time > serverNow() - 60).length;
  return html`<dl class="facts">
    ${fact('Server', linked.words, server(app.status), linked.well ? '' : 'bad')}
    ${fact('Members', alive === undefined ? '–' : digits(alive), app.membersProblem ? 'not readable' : 'alive')}
    ${fact('Failed', digits(numbers.failed ?? 0), 'keys', numbers.failed ? 'bad' : '')}
    ${fact('Waited for', digits(numbers.waiting ?? 0), 'keys that do not come', numbers.waiting ? 'warn' : '')}
    ${fact('Records', digits(records), reading(app))}
    ${fact('Changes', digits(minute), 'seen in the last minute')}
  </dl>`;
}

const fact = (name, word, more, colour = '') =>
  html`<div class=${colour}><dt>${name}</dt><dd>${word}</dd><dd class="more">${more}</dd></div>`;

function reading({store}) {
  const names = store.names;
  const open = names.filter((name) => store.map(name).listing === 'reading').length;
  const part = names.some((name) => ['part', 'failed', 'none'].includes(store.map(name).listing));
  const maps = `in ${count(names.length, 'map')}`;
  return open ? `${maps}, reading ${open}` : part ? `${maps}, not all read` : maps;
}

const well = (app) => html`<p class="well">${glyph('well')} Nothing is wrong.
  <span class="none">${app.live.state === 'live' ? 'This page says so as soon as something is.' : ''}</span></p>`;

function section(app, group) {
  const all = unfolded.has(group.name);
  const lines = all ? group.lines : group.lines.slice(0, MOST_LINES);
  const rest = group.lines.length - lines.length;
  const unfold = () => {
    unfolded.add(group.name);
    app.draw();
  };
  return html`<section class="trouble ${group.bad ? 'bad' : 'warn'}">
    <h2>${glyph(group.glyph)}${group.name} <span class="number">${digits(group.count)}</span></h2>
    <ul>${lines.slice(0, 200).map(line)}</ul>
    ${rest ? html`<button type="button" class="more" @click=${unfold}>Show ${digits(rest)} more</button>` : nothing}
  </section>`;
}

const line = ({where, why, since, seen, node}) => html`<li>
  <span class="where">${where}</span><span class="why">${why}</span><span class="who">${node ?? ''}</span>
  <span class="time">${seen ? html`<span title="since this page saw it">seen ${duration(serverNow() - seen)}</span>` : since ? when(since) : ''}</span>
</li>`;

function lastChanges(app) {
  const records = app.store.recent.filter(({record}) => record).slice(-LAST).map(({record}) => record);
  const shown = new Set(records.map(({map, key, revision}) => `${map}/${key} ${revision}`));
  if (records.length < LAST) {
    // What stood when the page began: the latest records tell of the latest changes.
    const known = app.store.names.flatMap((name) => latest(app.store.map(name)));
    for (const record of known) if (!shown.has(`${record.map}/${record.key} ${record.revision}`)) records.push(record);
  }
  records.sort((one, other) => other.time - one.time || compare(other.revision, one.revision));
  if (!records.length) return empty('No key has a record yet.', html`<code>coord fire MAP KEY</code> makes the first.`);
  return html`${changes('The last changes', records.slice(0, LAST).map(changeRow))}
    <p class="more"><a href=${to('stream')}>All changes</a></p>`;
}

function latest(map) {
  if (map.latest?.at === map.records.size) return map.latest.records;
  const records = [...map.records.values()].sort((one, other) => other.time - one.time).slice(0, LAST);
  map.latest = {at: map.records.size, records};
  return records;
}
