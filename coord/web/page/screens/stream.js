// Every change since this page was opened, as it came.

import {repeat} from '../vendor/directives/repeat.js';
import {html, nothing} from '../vendor/lit-html.js';
import {changeRow, changes, empty, glyph, happened, mapLink} from '../parts.js';
import {clock, count, digits} from '../text.js';

const MOST = 500;

const mine = {paused: null, find: '', store: null};

export const stream = {
  entered({store}) {
    // A pause is at a change of one session.
    if (mine.store !== store) Object.assign(mine, {store, paused: null});
  },
  draw,
};

function draw(app) {
  const {recent} = app.store;
  const upTo = mine.paused ?? Infinity;
  const words = mine.find.toLowerCase();
  const chosen = recent.filter((each) => each.number <= upTo && (each.lost || !words || matches(each.record, words)));
  const behind = mine.paused === null ? 0 : recent.filter(({number}) => number > upTo).length;
  const rows = chosen.slice(-MOST).reverse();
  return html`<h1 tabindex="-1">Stream</h1>
    <div class="tools">
      <label class="find"><span class="unseen">Filter changes</span><input type="search" id="find" autocomplete="off" spellcheck="false"
        placeholder="Filter: key, map, kind, node" .value=${mine.find} @input=${(event) => set(app, {find: event.target.value})}></label>
      ${mine.paused === null
        ? html`<button type="button" @click=${() => set(app, {paused: app.store.seen})}>Pause</button>`
        : html`<button type="button" class="main" @click=${() => set(app, {paused: null})}>Go on${behind ? ` (${digits(behind)} new)` : ''}</button>`}
      <span class="none">${count(chosen.length, 'change')}</span>
    </div>
    ${rows.length ? changes('Changes, the latest first', [], html`<tbody>${repeat(rows, ({number}) => number, entry)}</tbody>`)
      : empty(words ? 'No change has this in it.' : 'Nothing has changed since this page was opened.',
        words ? nothing : html`The history of one key is on its own page.`)}`;
}

function set(app, change) {
  Object.assign(mine, change);
  app.draw();
}

const matches = (record, words) =>
  [record.key, record.map, happened(record), record.node ?? ''].some((text) => text.toLowerCase().includes(words));

const entry = (each) => (each.lost
  ? html`<tr class="gap"><td colspan="5">${glyph('warning')}Changes of ${mapLink(each.lost)} are missing here: the history
    had been cut. The map was read again at ${clock(each.time)}.</td></tr>`
  : changeRow(each.record));
