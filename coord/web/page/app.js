// The state of this tab, and what changes it. Screens read it, and are drawn again after each change.

import {ask, nextSession, Problem, thisSession, whenUnauthorized} from './api.js';
import {happened} from './parts.js';
import {current} from './place.js';
import {may} from './rights.js';
import {MOST, Store} from './store.js';
import {Shared} from './stream.js';
import {escaped, now} from './text.js';

export const MEMBERS = '@members';
const MOST_MAPS = 16;
const STATUS_EVERY = 10_000;
const MAPS_EVERY = 30_000;
const PAUSE = 5000;

// What belongs to one session: the next begins without any of it.
const fresh = () => ({
  me: null,
  status: null,
  statusProblem: null,
  linkSince: null,
  mapsProblem: null,
  members: null,
  membersProblem: null,
  queues: new Map(),
  store: new Store(() => app.draw()),
  shared: null,
  live: {state: 'connecting', since: now(), role: 'waiting', tabs: 1},
  allowed: false,
  dialog: null,
  signIn: null,
});

/** `enter` and `leave` begin and end what the screen at the place does by itself. */
export const app = {place: current(), draw: () => {}, enter: () => {}, leave: () => {}, ...fresh()};

/** Whether this token may do something: to a key, or to every key of a map. */
export const allowedTo = (verb, map, key) => (app.me ? may(app.me.rights, verb, map, key) : false);

/** Whether a button is to work: with the right, and once changes are allowed in this tab. */
export const canChange = (verb, map, key) => app.allowed && allowedTo(verb, map, key);

/** Begin, or begin again with another token. */
export async function begin() {
  const ended = thisSession();
  whenUnauthorized(() => signIn('Your session is over.'));
  // Asked at once with the first question: whoever may read nothing is told by that.
  const early = lookForMaps({quiet: true});
  try {
    app.me = await ask('me');
  } catch (problem) {
    if (problem.status !== 401) {
      app.statusProblem = problem;
      setTimeout(() => ended.aborted || begin(), 2000);
    } else signIn('');
    return app.draw();
  }
  if (!app.me.rights.length) return signIn('');
  app.shared = new Shared(heard, ended);
  lookAtStatus();
  readMembers();
  if (app.place.map) app.store.read(app.place.map);
  await early;
  app.shared.start(app.me.session || app.me.name, watched());
  for (const name of app.store.names.slice(0, MOST_MAPS)) if (name !== MEMBERS) app.store.read(name);
  app.enter();
  app.draw();
}

function watched() {
  const first = app.place.map ? [app.place.map] : [];
  const members = allowedTo('read', MEMBERS) ? [MEMBERS] : [];
  return [...new Set([...first, ...members, ...app.store.names])].slice(0, MOST_MAPS);
}

/** Ask for a token; the place is kept. */
export function signIn(why) {
  app.signIn ??= {why, problem: '', busy: false};
  app.draw();
}

/** Exchange a token for a cookie, and begin with it. */
export async function useToken(token) {
  if (app.signIn.busy) return;
  app.signIn = {...app.signIn, busy: true, problem: ''};
  app.draw();
  try {
    await ask('session', {method: 'POST', body: {token}, quiet: true});
    await startOver();
  } catch (problem) {
    app.signIn = {...app.signIn, busy: false, problem: problem.status === 401 ? 'No such token, or it has expired.' : problem.message};
    app.draw();
  }
}

/** Log out in every tab. */
export async function logOut() {
  await ask('session', {method: 'DELETE', quiet: true});
  app.shared?.sayLoggedOut();
  await startOver();
}

async function startOver() {
  app.leave();
  nextSession();
  Object.assign(app, fresh());
  await begin();
}

async function lookForMaps(how) {
  try {
    const {maps} = await ask('maps', how);
    app.store.learn(maps);
    app.mapsProblem = null;
  } catch (problem) {
    app.mapsProblem = problem;
  }
  app.shared?.want(watched());
  app.draw();
}

async function lookAtStatus() {
  const before = app.statusProblem ? 'no answer' : app.status?.link;
  try {
    app.status = await ask('status');
    app.statusProblem = null;
  } catch (problem) {
    app.statusProblem = problem;
  }
  if (before !== (app.statusProblem ? 'no answer' : app.status.link)) app.linkSince = before ? now() : null;
  app.draw();
}

/** Read who is there, and who left or died in the last hour: as many as records of a map. */
export async function readMembers() {
  try {
    app.members = await allMembers();
    app.membersProblem = null;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    app.membersProblem = problem;
  }
  app.draw();
}

async function allMembers() {
  const found = new Map();
  for (let next; next !== null && found.size < MOST;) {
    const page = await ask('members', {query: {next}});
    for (const member of page.members) found.set(member.name, member);
    ({next} = page);
  }
  return [...found.values()];
}

/** Go on asking for what no stream tells, while somebody looks. */
export function keepLooking() {
  setInterval(() => document.hidden || !app.me || lookAtStatus(), STATUS_EVERY);
  setInterval(() => document.hidden || !app.me || lookForMaps(), MAPS_EVERY);
}

function heard(message) {
  const {type, record, state} = message;
  if (type === 'change') change(record);
  else if (type === 'caught-up') app.store.caughtUp(message.id);
  else if (type === 'lost') lost(message.data);
  else if (type === 'end') ended(message.data);
  else if (type === 'refused') checkSession();
  else if (type === 'logged-out') startOver();
  else if (type === 'role') app.live = {...app.live, role: message.role, tabs: message.tabs};
  else if (type === 'state' && state !== app.live.state) {
    app.live = {...app.live, state, since: now()};
    if (state === 'live') app.store.readFailed();
    announce(state === 'live' ? 'The page is live.' : 'The page has lost the gateway and tries again.');
  }
  app.draw();
}

function change(record) {
  app.store.apply(record);
  if (record.map === MEMBERS) readMembersSoon();
  if (record.kind === 'failed') announce(`${escaped(record.key)} of map ${record.map} failed.`);
  else if (app.place.map === record.map && (!app.place.key || app.place.key === record.key)) {
    announce(`${escaped(record.key)}: ${happened(record)}.`);
  }
}

let soon = null;
function readMembersSoon() {
  soon ??= setTimeout(() => {
    soon = null;
    if (app.me) readMembers();
  }, 300);
}

function lost(data) {
  app.store.missed(data);
  announce('Some changes are lost; the maps are read again.');
}

// A cookie that is good no more makes nobody of its owner, and a stream that is refused does not say why.
async function checkSession() {
  const me = await ask('me').catch(() => null);
  if (me && app.me && (me.name !== app.me.name || !me.rights.length)) signIn('Your session is over.');
}

// The gateway says why it ends a stream; when it stops itself, the next one is found as after any loss.
function ended({status, detail}) {
  if (status === 401 || status === 403) signIn(detail || 'Your session is over.');
}

// One polite live region: at most one sentence in five seconds, and only the last of those that came meanwhile.
let toSay = '';
let pause = null;

/** Tell those who listen instead of looking. */
export function announce(sentence) {
  toSay = sentence;
  if (pause === null) speak();
}

function speak() {
  pause = null;
  if (!toSay) return;
  document.getElementById('said').textContent = toSay;
  toSay = '';
  pause = setTimeout(speak, PAUSE);
}
