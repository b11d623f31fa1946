// One map: its keys as a tree.

import {repeat} from '../vendor/directives/repeat.js';
import {html, nothing} from '../vendor/lit-html.js';
import {badge, empty, refused, sparkline, state, value} from '../parts.js';
import {direction, ordered, refine, sorter, to, toKey} from '../place.js';
import {count, digits, escaped, now, shown, when} from '../text.js';
import {above, flat, inSight, rows} from '../tree.js';

const LONG = 300;
const narrow = matchMedia('(max-width: 700px)');

// What this screen remembers of each map: closed folders, the row that has the focus.
const memory = new Map();
const remembered = (name) => {
  if (!memory.has(name)) memory.set(name, {closed: new Set(), at: null});
  return memory.get(name);
};

export const map = {
  entered(app) {
    app.store.looked = app.place.map;
    app.shared?.want([app.place.map]);
    app.store.read(app.place.map);
    addEventListener('scroll', app.draw, {passive: true});
    addEventListener('resize', app.draw);
  },
  left(app) {
    app.store.looked = null;
    removeEventListener('scroll', app.draw);
    removeEventListener('resize', app.draw);
  },
  draw,
  drawn(app) {
    const mine = remembered(app.place.map);
    keepFocus(mine);
    if (mine.begun) app.draw();
    mine.begun = false;
  },
};

function draw(app) {
  const known = app.store.map(app.place.map);
  const total = known.records.size + known.corrupt.size;
  return html`<p class="crumbs"><a href=${to('maps')}>Maps</a></p>
    <div class="title"><h1 tabindex="-1">${known.name}</h1>${sparkline(known.minutes.until(now()))}
      <span class="none">changes, 15 min</span></div>
    <div class="tools">
      <label class="find"><span class="unseen">Filter keys and values</span>
        <input type="search" id="find" placeholder="Filter keys and values" .value=${app.place.find} autocomplete="off"
          spellcheck="false" @input=${(event) => refine(app, {find: event.target.value})}></label>
      <span class="none" id="how-many">${howMany(app, known)}</span>
      ${folding(app, known)}
    </div>
    ${known.listing === 'failed' ? failed(app, known) : nothing}
    ${total ? tree(app, known) : known.listing === 'whole' ? none(known) : nothing}
    ${known.listing === 'part' ? more(app, known) : nothing}`;
}

function folding(app, known) {
  const mine = remembered(known.name);
  const folders = foldersOf(known);
  if (!folders.size || app.place.find || app.place.sort || known.listing === 'reading') return nothing;
  const fold = (closed) => () => {
    mine.closed = new Set(closed);
    known.made = null;
    app.draw();
  };
  return mine.closed.size ? html`<button type="button" @click=${fold([])}>Open all folders</button>`
    : html`<button type="button" @click=${fold(folders)}>Close all folders</button>`;
}

function foldersOf(known) {
  if (known.folders?.version !== known.version) {
    known.folders = {version: known.version, paths: new Set(sorted(known).flatMap(above))};
  }
  return known.folders.paths;
}

// A long tree begins with its folders closed, but for those at the top.
function foldAtFirst(known, mine) {
  if (mine.folded || known.listing === 'reading' || known.records.size < LONG) return;
  mine.folded = true;
  for (const path of foldersOf(known)) if (above(path.slice(0, -1)).length) mine.closed.add(path);
}

// How many keys failed below each folder, so that a closed one hides no trouble.
function failedBelow(app, known) {
  if (known.failedBelow?.at !== app.store.changes) {
    const numbers = new Map();
    for (const record of known.records.values()) {
      if (record.kind === 'failed') for (const path of above(record.key)) numbers.set(path, (numbers.get(path) ?? 0) + 1);
    }
    known.failedBelow = {at: app.store.changes, numbers};
  }
  return known.failedBelow.numbers;
}

const failed = (app, known) => empty(refused(known.problem),
  html`<button type="button" @click=${() => app.store.read(known.name)}>Try again</button>`);

const none = (known) => empty('No key of this map has a record.',
  html`<code>coord fire ${known.name} KEY</code> fires the first.`);

const more = (app, known) => html`<p class="empty">${count(known.records.size, 'record')} of more are read.
  <button type="button" @click=${() => app.store.read(known.name, {most: Infinity})}>Read all</button></p>`;

function howMany(app, known) {
  const all = count(known.records.size + known.corrupt.size, 'key');
  const reading = known.listing === 'reading' ? ', reading…' : '';
  return app.place.find ? `${digits(rowsOf(app, known, remembered(known.name)).length)} of ${all}${reading}` : `${all}${reading}`;
}

// Sorting ten thousand keys takes 10 ms: only when there is another key.
function sorted(known) {
  if (known.sorted?.version !== known.version) {
    const keys = [...known.corrupt].filter((key) => !known.records.has(key)).concat([...known.records.keys()]);
    known.sorted = {version: known.version, keys: keys.sort((one, other) => (one < other ? -1 : 1))};
  }
  return known.sorted.keys;
}

function keysOf(app, known) {
  const words = app.place.find.toLowerCase();
  if (!words) return sorted(known);
  return sorted(known).filter((key) => {
    const record = known.records.get(key);
    return key.toLowerCase().includes(words) || state(record).includes(words) || (record?.node ?? '').toLowerCase().includes(words)
      || JSON.stringify(record?.value ?? '').toLowerCase().includes(words);
  });
}

const columns = ({records}) => ({
  key: (key) => key,
  state: (key) => state(records.get(key) ?? {corrupt: true}),
  node: (key) => records.get(key)?.node ?? '',
  age: (key) => -(records.get(key)?.time ?? 0),
});

function rowsOf(app, known, mine) {
  const {place} = app;
  // A list depends on what is in the records, the tree on their keys alone.
  const list = place.find || place.sort;
  const made = JSON.stringify([known.version, list ? known.taken : mine.closed.size, place.find, place.sort]);
  if (known.made !== made) {
    known.made = made;
    const keys = keysOf(app, known);
    known.rows = list ? flat(ordered(keys, place, columns(known))) : rows(keys, mine.closed);
  }
  return known.rows;
}

function tree(app, known) {
  const mine = remembered(known.name);
  foldAtFirst(known, mine);
  const all = rowsOf(app, known, mine);
  if (!all.length) return empty('No key has this in its name, value, state or node.');
  const height = narrow.matches ? 50 : 32;
  const focused = all.findIndex((row) => idOf(row) === mine.at);
  const grid = document.getElementById('tree');
  const top = grid ? Math.max(0, -grid.getBoundingClientRect().top) : 0;
  mine.begun = !grid;
  const indices = inSight(all.length, height, {top, visible: innerHeight, first: !grid}, focused);
  const current = focused < 0 ? 0 : focused;
  return html`<div role="treegrid" id="tree" class=${all.some((row) => row.folder) ? 'tree' : 'tree flat'} aria-label="Keys of ${known.name}" aria-rowcount=${all.length + 1}
      aria-describedby="how-many" @keydown=${(event) => pressed(event, app, mine, all)} @focusin=${(event) => focusedRow(event, mine)}>
    <div role="row" class="head" aria-rowindex="1">${head(app, 'key', 'Key')}${head(app, 'state', 'State')}
      <span role="columnheader">Value</span>${head(app, 'node', 'Node', 'who')}${head(app, 'age', 'Age', 'n')}</div>
    <div role="rowgroup" class="rows" .style=${`height: ${all.length * height}px`}>
      ${repeat(indices, (index) => idOf(all[index]), (index) => row(app, known, mine, all[index], index, height, index === current))}
    </div></div>`;
}

const head = (app, name, word, colour = '') => html`<span role="columnheader" class=${colour}
  aria-sort=${direction(app, name)}>${sorter(app, name, word)}</span>`;

const idOf = (row) => row.folder !== undefined ? `folder ${row.folder}` : `key ${row.key}`;

function row(app, known, mine, each, index, height, current) {
  const place = `top: ${index * height}px; --depth: ${Math.min(each.depth, 8)}`;
  const tab = current ? '0' : '-1';
  if (each.folder !== undefined) return folderRow(app, known, mine, each, index, place, tab);
  const record = known.records.get(each.key) ?? {corrupt: true};
  return html`<div role="row" class="row" aria-level=${each.depth + 1} aria-rowindex=${index + 2} tabindex=${tab}
      data-id=${idOf(each)} .style=${place}>
    <span role="gridcell" class="name"><a class="key" tabindex="-1" href=${toKey(known.name, each.key)}
      title=${escaped(each.key)}>${shown(each.label)}</a></span>
    <span role="gridcell" class="what">${badge(state(record))}</span>
    <span role="gridcell" class="with">${record.corrupt ? html`<span class="none">not written by coord</span>` : value(record)}</span>
    <span role="gridcell" class="who">${record.node ?? ''}</span>
    <span role="gridcell" class="time n">${record.time ? when(record.time) : ''}</span></div>`;
}

const folderRow = (app, known, mine, each, index, place, tab) => html`<div role="row" class="row folder" aria-level=${each.depth + 1}
    aria-expanded=${each.open} aria-rowindex=${index + 2} tabindex=${tab} data-id=${idOf(each)} .style=${place}
    @click=${() => toggle(app, mine, each)}>
  <span role="gridcell" class="name"><svg class="twist ${each.open ? 'open' : ''}" viewBox="0 0 12 12" aria-hidden="true"
    ><path d="M4.5 2.5L8 6l-3.5 3.5" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>${shown(each.label)}</span>
  <span role="gridcell" class="size none">${count(each.size, 'key')}</span>
  <span role="gridcell">${failedWord(failedBelow(app, known).get(each.folder))}</span></div>`;

const failedWord = (number) => (number ? badge('failed', `${digits(number)} failed`) : nothing);

function toggle(app, mine, each) {
  if (each.open) mine.closed.add(each.folder);
  else mine.closed.delete(each.folder);
  app.store.map(app.place.map).made = null;
  mine.at = idOf(each);
  app.draw();
}

function focusedRow(event, mine) {
  mine.at = event.target.closest('[data-id]')?.dataset.id ?? mine.at;
}

// The keys of a tree, as the ARIA practices have them.
function pressed(event, app, mine, all) {
  const id = event.target.closest('[data-id]')?.dataset.id;
  const index = all.findIndex((row) => idOf(row) === id);
  if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  const each = all[index];
  const page = Math.max(1, Math.floor(innerHeight / 40));
  const moves = {ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: all.length - 1, PageDown: index + page, PageUp: index - page};
  if (event.key in moves) move(app, mine, all, moves[event.key]);
  else if (event.key === 'Enter' && each.key !== undefined) location.hash = toKey(app.place.map, each.key);
  else if (event.key === 'Enter' || (event.key === 'ArrowRight' && each.folder !== undefined && !each.open)) toggle(app, mine, each);
  else if (event.key === 'ArrowLeft' && each.open) toggle(app, mine, each);
  else if (event.key === 'ArrowLeft') move(app, mine, all, parentOf(all, index));
  else return;
  event.preventDefault();
}

function parentOf(all, index) {
  for (let above = index - 1; above >= 0; above -= 1) if (all[above].depth < all[index].depth) return above;
  return index;
}

function move(app, mine, all, index) {
  mine.at = idOf(all[Math.max(0, Math.min(index, all.length - 1))]);
  mine.wanted = true;
  app.draw();
}

function keepFocus(mine) {
  if (!mine.wanted) return;
  mine.wanted = false;
  const found = document.querySelector(`#tree [data-id="${CSS.escape(mine.at)}"]`);
  found?.focus({preventScroll: true});
  found?.scrollIntoView({block: 'nearest'});
}
