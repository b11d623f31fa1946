// One key: its record in full, who holds it, who waits for it, and what happened to it.

import {html, nothing} from '../vendor/lit-html.js';
import {ask, inMap, past, Problem} from '../api.js';
import {buttons} from '../dialogs.js';
import {badge, empty, happened, mapLink, refused, state, value} from '../parts.js';
import {compare} from '../positions.js';
import {clock, count, digits, duration, now, shown, when} from '../text.js';

const LOOK_EVERY = 5000;
const MOST_CHANGES = 200;

let looked = null;

export const key = {
  entered(app) {
    const {map, key: name} = app.place;
    app.shared?.want([map]);
    looked = {map, key: name, record: null, holders: null, subscribers: null, history: null, problem: null, stop: new AbortController()};
    look(app, looked);
    looked.timer = setInterval(() => document.hidden || look(app, looked), LOOK_EVERY);
    readHistory(app, looked);
  },
  left() {
    clearInterval(looked?.timer);
    looked?.stop.abort();
    looked = null;
  },
  draw,
};

async function look(app, at) {
  const {signal} = at.stop;
  try {
    const record = await ask(inMap(at.map, 'record'), {query: {key: at.key, holders: true}, signal});
    // The stream may have told of a later change meanwhile.
    const newer = app.store.map(at.map).records.get(at.key);
    at.record = newer && compare(newer.revision, record.revision) > 0 ? newer : record;
    at.asked = now();
    at.holders = record.holders ?? null;
    at.problem = null;
    if (record.kind) app.store.map(at.map).take(record);
    const {subscribers} = await ask(inMap(at.map, 'subscribers'), {query: {key: at.key}, signal});
    at.subscribers = subscribers[at.key] ?? null;
  } catch (problem) {
    if (!(problem instanceof Problem)) return;
    at.problem = problem;
  }
  app.draw();
}

async function readHistory(app, at) {
  try {
    const changes = await past(at.map, {prefix: at.key, signal: at.stop.signal});
    at.history = changes.filter((change) => change.key === at.key);
  } catch (problem) {
    if (!(problem instanceof Problem)) return;
    at.historyProblem = problem;
  }
  app.draw();
}

function draw(app) {
  const {map, key: name} = app.place;
  if (!looked || looked.key !== name) return nothing;
  const live = app.store.map(map).records.get(name);
  if (live && compare(live.revision, looked.record?.revision) > 0) {
    looked.record = live;
    look(app, looked);
  }
  const {record} = looked;
  const corrupt = looked.problem?.name === 'corrupt-record' || app.store.map(map).corrupt.has(name);
  return html`<p class="crumbs">${mapLink(map)}</p>
    <div class="title"><h1 tabindex="-1" class="key">${shown(name)}</h1>${record || corrupt ? badge(corrupt ? 'corrupt' : state(record)) : nothing}</div>
    ${corrupt ? empty('Its record was not written by coord. A reset repairs it.') : looked.problem ? empty(refused(looked.problem)) : nothing}
    ${record || corrupt ? buttons(app, map, name, corrupt ? {corrupt} : record) : nothing}
    ${record ? details(record) : nothing}
    ${holders()}
    <h2>History</h2>${history(app, map, name)}`;
}

const details = (record) => html`
  ${valueOf(record)}
  <dl class="details">
    ${pair('Latched', record.latched ? 'yes: a wait is answered at once' : 'no: a wait is for what comes next')}
    ${record.time ? pair('Changed', html`${clock(record.time)} <span class="none">${when(record.time)} ago</span>`) : nothing}
    ${record.node ? pair('Node', record.node) : nothing}
    ${record.revision && record.kind ? pair('Revision', html`<code>${record.revision}</code>`) : nothing}
    ${record.latched_at ? pair('Latched since', html`<code>${record.latched_at}</code>`) : nothing}
    ${record.expires_in !== undefined ? pair('Ends', `in ${duration(record.expires_in - (now() - looked.asked))}`) : nothing}
    ${record.token ? pair('Token', html`<code>${record.token}</code>`) : nothing}
    ${counter(record)}
    ${pair('Nodes subscribed', looked.subscribers === null ? '–' : digits(looked.subscribers))}
  </dl>`;

const pair = (name, words) => html`<div><dt>${name}</dt><dd>${words}</dd></div>`;

function counter(record) {
  if (record.kind !== 'counted' && record.goal === undefined) return nothing;
  if (!record.goal) return pair('Count', digits(record.value));
  return pair('Count', html`${digits(record.value)} of ${digits(record.goal)}
    <progress max=${record.goal} value=${Math.min(record.value, record.goal)} aria-label="Count"></progress>`);
}

function valueOf(record) {
  if (record.value === null || record.value === undefined || record.value_omitted) {
    return record.value_omitted ? empty('The value is too large for this answer.') : nothing;
  }
  if (record.kind === 'failed' && typeof record.value === 'string') return html`<p class="reason">${shown(record.value)}</p>`;
  return html`<pre class="json" tabindex="0" aria-label="Value">${shownLines(JSON.stringify(record.value, null, 2))}</pre>`;
}

// A line feed of the printed JSON is ours; one of a string is escaped by JSON.
const shownLines = (text) => text.split('\n').map((line, index) => html`${index ? '\n' : ''}${shown(line)}`);

function holders() {
  const {holders: found} = looked;
  if (!found?.count) return nothing;
  const lock = found.rule === 'lock';
  const queue = lock ? found.count - 1 : 0;
  const words = lock ? (queue ? `${count(queue, 'holder')} in the queue` : 'nobody queues')
    : found.need > 1 ? `${digits(found.need)} are needed` : '';
  return html`<h2>${lock ? 'Owner and queue' : 'Holders'} <span class="number">${digits(found.count)}</span>
      <span class="none">${words}</span></h2>
    <table class="holders"><caption class="unseen">Holders</caption>
      <thead><tr><th scope="col" class="n">Place</th><th scope="col">Node</th><th scope="col">Value</th><th scope="col">Since</th></tr></thead>
      <tbody>${found.holders.map((holder) => html`<tr><td class="n">${holder.place}</td>
        <td>${holder.node}${lock && holder.place === found.holders[0].place ? html` <span class="none">owns it</span>` : nothing}</td>
        <td>${value({kind: 'fired', value: holder.value})}</td><td class="time">${when(holder.since)}</td></tr>`)}</tbody></table>`;
}

function history(app, map, name) {
  if (looked.historyProblem) return empty(refused(looked.historyProblem));
  if (!looked.history) return html`<p class="none">reading…</p>`;
  const last = looked.history.at(-1)?.revision;
  const since = app.store.recent.filter(({record}) => record?.map === map && record.key === name && compare(record.revision, last) > 0);
  const all = [...looked.history, ...since.map(({record}) => record)].reverse();
  if (!all.length) return empty('The history of the map has no change of this key, or no longer.');
  return html`<table class="history"><caption class="unseen">History</caption>
    <thead><tr><th scope="col">Time</th><th scope="col">Change</th><th scope="col">Value</th><th scope="col">Node</th>
      <th scope="col">Revision</th></tr></thead>
    <tbody>${all.slice(0, MOST_CHANGES).map((record) => html`<tr>
      <td class="time"><time datetime=${new Date(record.time * 1000).toISOString()}>${clock(record.time)}</time></td>
      <td class="what">${badge(state(record), happened(record))}</td><td class="with">${value(record)}</td>
      <td class="who">${record.node ?? ''}</td><td class="revision"><code>${record.revision}</code></td></tr>`)}</tbody></table>`;
}
