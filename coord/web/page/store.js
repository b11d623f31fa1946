// What this tab knows of the maps: their records as listed, and every change since.

import {ask, inMap} from './api.js';
import {compare, parse} from './positions.js';
import {now} from './text.js';

const FIRST_PAGE = 200;
const PAGE = 1000;
/** Records of one map that are read by themselves; more are read when asked for. */
export const MOST = 10_000;
const RECENT = 1000;
const MINUTES = 15;

/** Changes of one map in each minute of the last quarter of an hour, the oldest first. */
class Minutes {
  #counts = new Map();

  add(time) {
    const minute = Math.floor(time / 60);
    this.#counts.set(minute, (this.#counts.get(minute) ?? 0) + 1);
    for (const old of this.#counts.keys()) if (old <= minute - MINUTES) this.#counts.delete(old);
  }

  until(time) {
    const last = Math.floor(time / 60);
    return Array.from({length: MINUTES}, (_, index) => this.#counts.get(last - MINUTES + 1 + index) ?? 0);
  }
}

/** One map. `listing` is none, reading, part, whole or failed. */
class KnownMap {
  constructor(name) {
    this.name = name;
    this.records = new Map();
    this.corrupt = new Set();
    this.listing = 'none';
    this.problem = null;
    this.next = null;
    this.revision = null;
    this.streamed = false;
    this.listed = null;
    this.minutes = new Minutes();
    this.last = null;
    this.waiting = null;
    this.version = 0;
    this.taken = 0;
    this.reading = null;
    this.most = 0;
  }

  /** Put a record in the place of an older one; whether it was newer. */
  take(record) {
    const known = this.records.get(record.key);
    if (known && compare(known.revision, record.revision) >= 0) return false;
    if (!known) this.version += 1;
    this.taken += 1;
    this.corrupt.delete(record.key);
    this.records.set(record.key, record);
    if (!this.last || compare(this.last.revision, record.revision) < 0) this.last = record;
    return true;
  }
}

export class Store {
  #queue = new Set();
  #busy = false;

  /** @param {() => void} changed is called after each change; several calls may be shown at once */
  constructor(changed) {
    this.changes = 0;
    this.changed = () => {
      this.changes += 1;
      changed();
    };
    this.maps = new Map();
    this.recent = [];
    this.lost = [];
    this.seen = 0;
    this.looked = null;
  }

  map(name) {
    if (!this.maps.has(name)) this.maps.set(name, new KnownMap(name));
    return this.maps.get(name);
  }

  /** The maps of events; that of the members is none of them. */
  get names() {
    return [...this.maps.keys()].filter((name) => !name.startsWith('@')).sort();
  }

  /** Learn which maps there are. */
  learn(names) {
    for (const name of names) this.map(name);
    this.changed();
  }

  /** Take a change from the stream. */
  apply(record) {
    const map = this.map(record.map);
    map.minutes.add(record.time);
    this.recent.push({record, number: (this.seen += 1)});
    if (this.recent.length > 2 * RECENT) this.recent.splice(0, RECENT);
    const news = map.take(record);
    this.changed();
    return news;
  }

  /**
   * The stream has shown all up to these positions. What was listed before the stream began may lack changes between
   * the two: then it is read again.
   */
  caughtUp(id) {
    for (const [name, position] of parse(id)) {
      const map = this.maps.get(name);
      if (map?.revision && !map.streamed && compare(map.revision, position) < 0) this.readAgain(name);
      if (map) map.streamed = true;
    }
  }

  /** The stream has lost changes of a map: say so, and read the map again. */
  missed(data) {
    const names = data.map ? [data.map] : [...this.maps.keys()];
    for (const name of names) {
      this.lost.push({map: name, time: now()});
      this.recent.push({lost: name, time: now(), number: (this.seen += 1)});
      this.readAgain(name);
    }
    this.changed();
  }

  /**
   * Read a map, unless that was done: up to `MOST` records, or all that there are. The gateway makes one listing of a
   * principal at a time, so the maps wait for each other; the one that is looked at goes first.
   */
  read(name, {most = MOST} = {}) {
    const map = this.map(name);
    if (map.listing === 'whole' || (map.listing === 'part' && map.records.size >= most)) return Promise.resolve();
    map.most = Math.max(most, map.most);
    map.listing = 'reading';
    map.reading ??= Promise.withResolvers();
    this.#queue.add(map);
    this.#readOn();
    return map.reading.promise;
  }

  /** Read a map from its beginning: what is in it no more goes. */
  async readAgain(name) {
    const map = this.map(name);
    await map.reading?.promise;
    if (map.listing === 'none') return;
    Object.assign(map, {listing: 'none', next: null, most: 0});
    const before = [...map.records.keys()];
    map.corrupt.clear();
    await this.read(name);
    if (map.listing !== 'whole') return;
    for (const key of before) if (!map.listed.has(key)) map.records.delete(key);
    map.version += 1;
    this.changed();
  }

  /** Try those again that could not be read. */
  readFailed() {
    for (const map of this.maps.values()) if (map.listing === 'failed') this.read(map.name);
  }

  async #readOn() {
    if (this.#busy) return;
    this.#busy = true;
    while (this.#queue.size) {
      const looked = this.maps.get(this.looked);
      const map = this.#queue.has(looked) ? looked : this.#queue.values().next().value;
      await this.#readPage(map);
      if (map.listing !== 'reading') {
        this.#queue.delete(map);
        map.reading.resolve();
        map.reading = null;
      }
      this.changed();
    }
    this.#busy = false;
  }

  async #readPage(map) {
    const first = map.next === null;
    map.problem = null;
    try {
      const query = {limit: first ? FIRST_PAGE : PAGE, next: map.next ?? undefined};
      this.#takePage(map, first, await ask(inMap(map.name, 'records'), {query, patient: true}));
    } catch (problem) {
      map.listing = 'failed';
      map.problem = problem;
      // After a restart of the server its pages are others: begin again.
      if (problem.status === 410) map.next = null;
    }
  }

  #takePage(map, first, page) {
    if (first) {
      map.revision = page.revision;
      map.listed = new Set();
    }
    for (const record of page.records) {
      map.take(record);
      map.listed.add(record.key);
    }
    for (const key of page.corrupt ?? []) map.corrupt.add(key);
    if (page.corrupt?.length) map.version += 1;
    map.next = page.next ?? null;
    if (map.next === null) map.listing = 'whole';
    else if (map.records.size >= map.most) map.listing = 'part';
  }

  /** Ask which keys of a map are waited for and not latched. */
  async readWaiting(name) {
    const map = this.map(name);
    const {waiting, more} = await ask(inMap(name, 'waiting'), {query: {limit: PAGE}});
    const before = map.waiting ?? new Map();
    map.waiting = new Map(
      waiting.map(({key, subscribers}) => [key, {nodes: subscribers, since: before.get(key)?.since ?? now()}]),
    );
    map.moreWaiting = more;
    this.changed();
  }
}
