// Where the reader is: a screen and its parameters, in the part of the address behind the #, which no server sees. And
// columns that sort: the order stands in the address too, so that a link shows the same.

import {html, nothing} from './vendor/lit-html.js';

const SCREENS = ['now', 'maps', 'map', 'key', 'members', 'stream', 'access'];

/** The place that the address names. */
export function current() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [screen, map] = path.split('/');
  const parameters = new URLSearchParams(query);
  return {
    screen: SCREENS.includes(screen) ? screen : 'now',
    map: map ? decoded(map) : undefined,
    key: parameters.get('key') ?? undefined,
    find: parameters.get('find') ?? '',
    sort: parameters.get('sort') ?? '',
  };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a screen, a map, or a key. */
export const to = (screen, map, query = {}) => {
  const parameters = new URLSearchParams(query).toString();
  return `#/${screen}${map === undefined ? '' : `/${encodeURIComponent(map)}`}${parameters ? `?${parameters}` : ''}`;
};

export const toKey = (map, key) => to('key', map, {key});

/** Filter or sort where one is: in the address, without a step in the history. */
export function refine(app, change) {
  app.place = {...app.place, ...change};
  const {screen, map, find, sort} = app.place;
  history.replaceState(null, '', to(screen, map, {...(find && {find}), ...(sort && {sort})}));
  app.draw();
}

const descends = (sort) => sort.startsWith('-');

/** The column that a place is sorted by. */
export const column = ({sort}) => sort.replace(/^-/, '');

/** What `aria-sort` says of a column. */
export const direction = ({place}, name) =>
  column(place) === name ? (descends(place.sort) ? 'descending' : 'ascending') : nothing;

/**
 * The button in the header of a column: first one way, then the other, then the order there was.
 *
 * @param {boolean} down whether the greatest come first at the first click
 */
export function sorter(app, name, word, down = false) {
  const turns = down ? [`-${name}`, name, ''] : [name, `-${name}`, ''];
  const next = turns[(turns.indexOf(app.place.sort) + 1) % 3];
  const shown = column(app.place) === name;
  return html`<button type="button" class=${shown ? 'sort shown' : 'sort'} @click=${() => refine(app, {sort: shown ? next : turns[0]})}
    >${word}<svg viewBox="0 0 8 8" class=${(shown ? descends(app.place.sort) : down) ? 'down' : ''} aria-hidden="true"
    ><path d="M1 5.5L4 2.5l3 3" fill="none" stroke="currentColor" stroke-width="1.4"/></svg></button>`;
}

/** The header cell of a table's column. */
export const header = (app, name, word, {down = false, style = ''} = {}) =>
  html`<th scope="col" class=${style} aria-sort=${direction(app, name)}>${sorter(app, name, word, down)}</th>`;

/** How a column of numbers begins: with the greatest. */
export const NUMBERS = {down: true, style: 'n'};

/** How a column of times begins: with the latest. */
export const TIMES = {down: true};

/** Items in the order of a place, by what each column compares; equal ones, and all without a column, stay as they are. */
export function ordered(items, {sort}, values) {
  const value = values[column({sort})];
  if (!value) return items;
  const sign = descends(sort) ? -1 : 1;
  const marked = items.map((item) => [value(item), item]);
  marked.sort(([one], [other]) => (one < other ? -sign : one > other ? sign : 0));
  return marked.map(([, item]) => item);
}
