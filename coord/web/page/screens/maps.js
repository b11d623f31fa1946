// All maps, a row each.

import {repeat} from '../vendor/directives/repeat.js';
import {html} from '../vendor/lit-html.js';
import {allowedTo} from '../app.js';
import {badge, empty, happened, keyLink, refused, sparkline, state} from '../parts.js';
import {header, NUMBERS, ordered, TIMES, to} from '../place.js';
import {digits, now, when} from '../text.js';

let timer = null;

export const maps = {
  entered(app) {
    const look = async () => {
      if (document.hidden) return;
      for (const name of app.store.names.slice(0, 16)) {
        app.store.read(name);
        if (allowedTo('read', name)) await app.store.readWaiting(name).catch(() => {});
      }
    };
    look();
    timer = setInterval(look, 10_000);
  },
  left: () => clearInterval(timer),
  draw,
};

function draw(app) {
  const {names} = app.store;
  return html`<h1 tabindex="-1">Maps</h1>
    ${app.mapsProblem ? empty(refused(app.mapsProblem)) : names.length ? table(app, ordered(names.map((name) => app.store.map(name)), app.place, columns(app.store))) : none()}`;
}

const none = () => empty('There are no maps yet, or none that this token may read.',
  html`A map begins with its first event: <code>coord fire MAP KEY</code>.`);

const columns = (store) => ({
  map: ({name}) => name,
  keys: ({records, corrupt}) => records.size + corrupt.size,
  latched: (map) => counted(map, store).latched,
  failed: (map) => counted(map, store).failed,
  waiting: ({waiting}) => waiting?.size ?? 0,
  changes: ({minutes}) => minutes.until(now()).reduce((sum, number) => sum + number, 0),
  last: ({last}) => last?.time ?? 0,
});

const table = (app, maps) => html`<table class="maps sorts">
  <caption class="unseen">Maps</caption>
  <thead><tr>${header(app, 'map', 'Map')}${header(app, 'keys', 'Keys', NUMBERS)}${header(app, 'latched', 'Latched', NUMBERS)}
    ${header(app, 'failed', 'Failed', NUMBERS)}${header(app, 'waiting', 'Waited for', NUMBERS)}
    ${header(app, 'changes', 'Changes, 15 min', TIMES)}${header(app, 'last', 'Last change', TIMES)}</tr></thead>
  <tbody>${repeat(maps, ({name}) => name, (map) => row(map, app.store))}</tbody>
</table>`;

function row(map, store) {
  const {latched, failed, whole} = counted(map, store);
  const cell = (number, colour = '') =>
    html`<td class="n ${number ? colour : 'none'}">${whole ? digits(number) : `${digits(number)}+`}</td>`;
  return html`<tr>
    <th scope="row"><a href=${to('map', map.name)}>${map.name}</a></th>
    ${cell(map.records.size + map.corrupt.size)}${cell(latched)}${cell(failed, 'bad')}
    <td class="n ${map.waiting?.size ? 'warn' : 'none'}">${map.waiting ? `${digits(map.waiting.size)}${map.moreWaiting ? '+' : ''}` : '–'}</td>
    <td class="spark">${sparkline(map.minutes.until(now()))}</td>
    <td class="last">${map.last ? html`${badge(state(map.last), happened(map.last))}
      ${keyLink(map.name, map.last.key)} <span class="time">${when(map.last.time)}</span>` : html`<span class="none">–</span>`}</td>
  </tr>`;
}

function counted(map, store) {
  if (map.counts?.at === store.changes) return map.counts;
  let latched = 0;
  let failed = 0;
  for (const record of map.records.values()) {
    if (record.latched) latched += 1;
    if (record.kind === 'failed') failed += 1;
  }
  map.counts = {at: store.changes, latched, failed, whole: map.listing === 'whole'};
  return map.counts;
}
