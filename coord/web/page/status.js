// How things are, in words: the link, the server, the page, and what an operator looks for at three in the morning.

import {html} from './vendor/lit-html.js';
import {happened, keyLink, mapLink, state, value} from './parts.js';
import {age, count, duration, now} from './text.js';

/** How the link to the server is: {well, words, why, since}. */
export function link({status, statusProblem, linkSince}) {
  if (statusProblem) return {well: false, words: 'no answer', why: `The gateway does not answer: ${statusProblem.message}.`, since: linkSince};
  if (!status) return {well: true, words: '…', why: ''};
  const well = status.link === 'connected';
  return {well, words: status.link, why: well ? '' : `${status.link}: ${status.reason}`, since: linkSince};
}

/** What the server says of itself, in few words. */
export function server(status) {
  if (!status) return '';
  const {role, version, persistence, warnings} = status.server;
  const told = warnings.some(({check}) => check === 'persistence');
  return [version, role, told ? '' : persistence].filter(Boolean).join(' · ');
}

/** Where the server is, without secrets. */
export const address = (status) => status?.server.address ?? '';

/** How the page itself hears of changes: {well, word, words}. */
export function live({state, since, role, tabs}) {
  const long = duration(now() - since);
  if (role === 'too-many') return {well: false, word: 'not live', words: 'Four tabs have a stream each; this one has none.'};
  const shared = role === 'alone' ? ' A stream for each tab, at most 4.' : tabs > 1 ? ` One stream for ${tabs} tabs.` : '';
  if (state === 'live') return {well: true, word: 'live', words: `Changes arrive as they happen.${shared}`};
  if (state === 'paused') return {well: true, word: 'paused', words: 'Nobody looked.'};
  if (state === 'connecting') return {well: true, word: 'connecting', words: ''};
  return {well: false, word: `reconnecting for ${long}`, words: 'What is shown may be old.'};
}

const HOUR = 3600;

/** Groups {name, word, words, bad, count, lines} of what is wrong; none are empty. */
export function troubles(app) {
  return [connection(app), warned(app), died(app), failed(app), corrupt(app), waiting(app), queues(app), lost(app)].filter(
    (group) => group.count,
  );
}

const group = (glyph, name, lines, bad = true) => ({glyph, name, lines, bad, count: lines.length});

function connection(app) {
  const linked = link(app);
  const lines = linked.well ? [] : [{where: 'Link to the server', why: linked.why, since: linked.since}];
  return group('warning', 'No link', lines);
}

function warned({status}) {
  const lines = (status?.server.warnings ?? []).map(({check, text, fix}) => ({where: check, why: fix ? html`${text}; to change: <code>${fix}</code>` : text}));
  return group('warning', 'Server', lines, false);
}

function died({members}) {
  const lines = (members ?? []).filter(({kind}) => kind === 'expired')
    .map((member) => ({where: html`<bdi>${member.name}</bdi>`, why: 'died: its lease was over', since: member.since}));
  return group('expired', 'Died in the last hour', newest(lines));
}

// Collected once for each version of the store, not at each drawing.
function records(app) {
  const {store} = app;
  if (store.collected?.at === store.changes) return store.collected;
  const found = {at: store.changes, failed: [], locked: [], corrupt: []};
  for (const map of store.maps.values()) {
    for (const record of map.records.values()) {
      if (record.kind === 'failed') found.failed.push(record);
      else if (state(record) === 'locked') found.locked.push(record);
    }
    for (const key of map.corrupt) found.corrupt.push({map: map.name, key});
  }
  return (store.collected = found);
}

export const locks = (app) => records(app).locked.sort((one, other) => one.time - other.time);

function failed(app) {
  const lines = records(app).failed.map((record) => ({
    where: at(record.map, record.key), why: value(record), since: record.time, node: record.node,
  }));
  return group('failed', 'Failed', newest(lines));
}

function corrupt(app) {
  const why = 'Its record was not written by coord; a reset repairs it.';
  return group('corrupt', 'Corrupt', records(app).corrupt.map(({map, key}) => ({where: at(map, key), why})));
}

function waiting(app) {
  const found = [];
  for (const map of app.store.maps.values()) {
    for (const [key, {nodes, since}] of map.waiting ?? []) {
      if (!map.records.get(key)?.latched) found.push({map: map.name, key, nodes, since});
    }
  }
  found.sort((one, other) => other.nodes - one.nodes || one.since - other.since);
  const lines = found.map(({map, key, nodes, since}) => ({
    where: at(map, key), why: html`${count(nodes, 'node')} ${nodes === 1 ? 'waits' : 'wait'}, ${before(app, map, key)}`,
    seen: since,
  }));
  return group('waiting', 'Waited for, and does not come', lines, false);
}

function before(app, map, key) {
  const record = app.store.maps.get(map).records.get(key);
  return record ? `${happened(record)} ${age(record.time)} ago` : 'never fired';
}

function queues(app) {
  const lines = locks(app).filter((record) => app.queues.get(`${record.map}/${record.key}`) > 0).map((record) => ({
    where: at(record.map, record.key),
    why: html`${count(app.queues.get(`${record.map}/${record.key}`), 'node')} behind ${record.node}`,
    since: record.time,
  }));
  return group('locked', 'Locks with a queue', lines, false);
}

function lost({store}) {
  const lines = store.lost.filter(({time}) => time > now() - HOUR)
    .map(({map, time}) => ({where: mapLink(map), why: 'Changes are missing here; the map was read again.', since: time}));
  return group('warning', 'History lost', lines, false);
}

const newest = (lines) => lines.sort((one, other) => (other.since ?? 0) - (one.since ?? 0));

const at = (map, key) => html`<span class="map">${mapLink(map)}</span> ${keyLink(map, key)}`;
