// The start: what is around the screens, and when it is drawn.

import {html, nothing, render} from './vendor/lit-html.js';
import {app, begin, keepLooking} from './app.js';
import {dialog} from './dialogs.js';
import {header} from './header.js';
import {current} from './place.js';
import {access, signInDialog} from './screens/access.js';
import {key} from './screens/key.js';
import {map} from './screens/map.js';
import {maps} from './screens/maps.js';
import {members} from './screens/members.js';
import {now as nowScreen} from './screens/now.js';
import {stream} from './screens/stream.js';
import {escaped} from './text.js';

const SCREENS = {now: nowScreen, maps, map, key, members, stream, access};
const TITLES = {now: 'Now', maps: 'Maps', members: 'Members', stream: 'Stream', access: 'Access'};
const AGES_EVERY = 5000;
const SOON = 50;

function page() {
  const screen = SCREENS[app.place.screen];
  return html`${header(app)}
    <main id="main" tabindex="-1">${app.me ? screen.draw(app) : nothing}</main>
    ${dialog(app)} ${signInDialog(app)}`;
}

function draw() {
  render(page(), document.getElementById('app'));
  const {screen, map: name, key: one} = app.place;
  document.title = `${TITLES[screen] ?? escaped(one ?? name ?? '')} · coord${app.status ? ` ${app.status.namespace}` : ''}`;
  SCREENS[screen].drawn?.(app);
  showDialogs();
}

// A dialog is modal from its first drawing on; afterwards the focus is where it was.
let before = null;
function showDialogs() {
  const shown = document.querySelector('dialog');
  if (shown && !shown.open) {
    before ??= document.activeElement;
    shown.showModal();
  }
  if (!shown && before) {
    (before.isConnected && !before.disabled ? before : document.getElementById('main')).focus({preventScroll: true});
    before = null;
  }
}

// Many changes in a moment are drawn once; a page that nobody sees is drawn seldom. The first drawing is due already.
let due = true;
function drawSoon() {
  if (due) return;
  due = true;
  const go = () => {
    due = false;
    draw();
  };
  if (document.hidden) setTimeout(go, 1000);
  else requestAnimationFrame(go);
}

// A drawing takes 20 ms without anything in it: the first one waits for what first.js has asked for, if it comes soon.
async function drawFirst() {
  const answers = Promise.allSettled(globalThis.asked.values());
  await Promise.race([answers, new Promise((resolve) => setTimeout(resolve, SOON))]);
  due = false;
  drawSoon();
}

function moved() {
  const before = app.place;
  app.place = current();
  const same = before.screen === app.place.screen && before.map === app.place.map && before.key === app.place.key;
  if (!same) {
    app.leave();
    if (app.me) app.enter();
    draw();
    scrollTo(0, 0);
    document.querySelector('h1')?.focus({preventScroll: true});
  }
  drawSoon();
}

// The screen that one has entered, until it is left: there is none before a session has begun.
let entered = null;

function leave() {
  entered?.left?.(app);
  entered = null;
}

function enter() {
  leave();
  entered = SCREENS[app.place.screen];
  entered.entered?.(app);
}

Object.assign(app, {draw: drawSoon, enter, leave});
addEventListener('hashchange', moved);
document.addEventListener('visibilitychange', drawSoon);
setInterval(() => document.hidden || drawSoon(), AGES_EVERY);
drawFirst();
begin();
keepLooking();
