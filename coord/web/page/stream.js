// The stream of changes, one for all tabs of a browser. The tab that has the lock reads, and tells the others on a
// channel; when it is closed, the next one gets the lock and goes on at the last change that it was told.

import {API, query} from './api.js';
import {compare, parse, since, whole} from './positions.js';

const SHORTEST = 500;
const LONGEST = 10_000;
const MOST_ALONE = 4;
const MOST_MAPS = 16;
const HIDDEN = 60_000;
const GREETING = 150;

/**
 * One EventSource, for as long as it is wanted; it goes on where it was after any loss.
 *
 * Changes of maps, each once and in order, or the word that some are lost.
 *
 * `told` gets {type: 'change', id, record}, {type: 'caught-up', id}, {type: 'lost', id, data}, {type: 'end', data},
 * {type: 'refused'}, and {type: 'state', state: 'live' or 'reconnecting'}.
 */
class Stream {
  #told;
  #source = null;
  #timer = null;
  #pause = SHORTEST;
  #maps = [];
  #known = new Map();

  constructor(told) {
    this.#told = told;
  }

  /** Watch these maps: from the known revisions on, and those without one from now on. */
  open(maps, known) {
    this.close();
    this.#maps = maps;
    this.#known = new Map(known);
    if (maps.length) this.#connect();
  }

  close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #connect() {
    const maps = this.#maps.map((map) => query({map})).join('&');
    const source = new EventSource(`${API}watch?${maps}&${query({since: since(this.#maps, this.#known)})}`);
    this.#source = source;
    source.onopen = () => this.#opened();
    source.onmessage = (event) => this.#heard(event, {type: 'change', record: JSON.parse(event.data)});
    source.addEventListener('caught-up', (event) => this.#heard(event, {type: 'caught-up'}));
    source.addEventListener('lost', (event) => this.#heard(event, {type: 'lost', data: JSON.parse(event.data)}));
    source.addEventListener('end', (event) => this.#told({type: 'end', data: JSON.parse(event.data || '{}')}));
    source.onerror = () => this.#failed(source);
  }

  #opened() {
    this.#pause = SHORTEST;
    this.#told({type: 'state', state: 'live'});
  }

  #heard(event, message) {
    const id = event.lastEventId ? whole(event.lastEventId, this.#maps) : '';
    for (const [map, revision] of parse(id)) this.#known.set(map, revision);
    this.#told({...message, id});
  }

  #failed(source) {
    this.#told({type: 'state', state: 'reconnecting'});
    // Anything but a 200 ends an EventSource for good, such as a proxy's 502 while the gateway starts again.
    if (source.readyState !== EventSource.CLOSED || source !== this.#source) return;
    this.#told({type: 'refused'});
    this.#timer = setTimeout(() => this.#connect(), this.#pause * (0.5 + Math.random()));
    this.#pause = Math.min(this.#pause * 2, LONGEST);
  }
}

/** What this tab has of the one stream: it reads, or listens to the tab that does. */
export class Shared {
  #told;
  #stream;
  #channel;
  #name;
  #maps = [];
  #others = new Map();
  #id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
  #ended;
  #release = null;
  #hiddenTimer = null;
  #paused = false;
  #known = new Map();
  #state = 'connecting';

  /**
   * @param {(message: object) => void} told as of `Stream`, also with {type: 'role', role, tabs}
   * @param {AbortSignal} ended aborts when the session is over: then all is let go
   */
  constructor(told, ended) {
    this.#told = told;
    this.#ended = ended;
    this.#stream = new Stream((message) => this.#read(message));
    this.role = 'waiting';
    ended.addEventListener('abort', () => this.#stop());
    document.addEventListener('visibilitychange', () => {
      this.#say({type: 'visible', visible: !document.hidden});
      this.#seen();
    }, {signal: ended});
    addEventListener('pagehide', () => this.#say({type: 'bye'}), {signal: ended});
  }

  /** Begin. The session is in the names: after a log-out no tab hears what another user may read. */
  async start(session, maps) {
    this.#name = `coord ${new URL('.', document.baseURI).pathname} ${session}`;
    this.#maps = maps;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({data}) => this.#hear(data);
    this.#say({type: 'hello', maps, visible: !document.hidden});
    if (navigator.locks) await this.#lead();
    else await this.#alone();
  }

  #stop() {
    this.#say({type: 'bye'});
    this.#told = () => {};
    this.#release?.();
    this.#stream.close();
    this.#channel?.close();
    this.#channel = null;
    clearTimeout(this.#hiddenTimer);
  }

  /** Tell the other tabs that the user has logged out. */
  sayLoggedOut() {
    this.#say({type: 'logged-out'});
  }

  /** Watch these maps as well, in whichever tab reads. */
  want(maps) {
    const more = maps.filter((map) => !this.#maps.includes(map));
    if (!more.length) return;
    this.#maps = [...this.#maps, ...more];
    this.#say({type: 'want', maps: this.#maps});
    if (this.role === 'reads' || this.role === 'alone') this.#open();
  }

  async #lead() {
    this.#become('listens');
    try {
      await navigator.locks.request(this.#name, {signal: this.#ended}, () => {
        if (this.#ended.aborted) return null;
        this.#become('reads');
        this.#open();
        return new Promise((release) => (this.#release = release));
      });
    } catch (error) {
      if (error.name !== 'AbortError') throw error;
    }
  }

  async #alone() {
    // Locks exist on https and on localhost only.
    await new Promise((resolve) => setTimeout(resolve, GREETING));
    if (!this.#ended.aborted) this.#settle();
  }

  // Whether one of the streams is for this tab: the older ones go first, and some of them may have answered late.
  #settle() {
    const older = [...this.#others].filter(([id, {role}]) => role === 'alone' && id < this.#id).length;
    const role = older < MOST_ALONE ? 'alone' : 'too-many';
    if (role === this.role) return;
    this.#become(role);
    if (role === 'alone') this.#open();
    else this.#stream.close();
  }

  #become(role) {
    this.role = role;
    this.#say({type: 'role', role});
    this.#tellRole();
  }

  #tellRole() {
    this.#told({type: 'role', role: this.role, tabs: this.#others.size + 1});
  }

  #open() {
    const wanted = new Set(this.#maps);
    if (this.role === 'reads') for (const other of this.#others.values()) for (const map of other.maps) wanted.add(map);
    this.#paused = false;
    this.#stream.open([...wanted].slice(0, MOST_MAPS), this.#known);
  }

  // What the stream of this tab tells.
  #read(message) {
    if (message.type === 'state') this.#state = message.state;
    if (this.role === 'reads') this.#say({type: 'told', message});
    this.#tell(message);
  }

  // Pass a message on, unless it is a change that is known: a new reader begins where it stood itself.
  #tell(message) {
    if (message.type === 'change') {
      const {map, revision} = message.record;
      if (compare(revision, this.#known.get(map)) <= 0) return;
      this.#known.set(map, revision);
    }
    for (const [map, revision] of parse(message.id)) this.#known.set(map, revision);
    this.#told(message);
  }

  #say(message) {
    this.#channel?.postMessage({from: this.#id, ...message});
  }

  #hear({from, type, ...more}) {
    if (type === 'told') {
      if (this.role !== 'listens') return;
      return this.#tell(more.message);
    }
    if (type === 'logged-out') return this.#told({type: 'logged-out'});
    if (type === 'bye') this.#others.delete(from);
    else this.#learn(from, type, more);
    if (this.role === 'alone' || this.role === 'too-many') this.#settle();
    this.#tellRole();
    this.#seen();
  }

  #learn(from, type, more) {
    const known = this.#others.get(from) ?? {maps: [], visible: true, role: 'waiting'};
    this.#others.set(from, {...known, ...more});
    if (type === 'hello') {
      this.#say({type: 'here', maps: this.#maps, visible: !document.hidden, role: this.role, known: this.#known});
      if (this.role === 'reads') this.#say({type: 'told', message: {type: 'state', state: this.#state}});
    }
    if (more.known && this.role === 'listens') {
      for (const [map, revision] of more.known) if (!this.#known.has(map)) this.#known.set(map, revision);
    }
    const missing = (more.maps ?? []).filter((map) => !this.#maps.includes(map));
    if (this.role === 'reads' && missing.length) this.#open();
  }

  // Nobody looks: after a minute the stream is let go, and resumed where it was.
  #seen() {
    clearTimeout(this.#hiddenTimer);
    if (this.role !== 'reads' && this.role !== 'alone') return;
    const looked = !document.hidden || (this.role === 'reads' && [...this.#others.values()].some((other) => other.visible));
    if (looked && this.#paused) this.#open();
    if (!looked && !this.#paused) this.#hiddenTimer = setTimeout(() => this.#pause(), HIDDEN);
  }

  #pause() {
    this.#paused = true;
    this.#stream.close();
    this.#read({type: 'state', state: 'paused'});
  }
}
