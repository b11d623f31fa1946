// What is always there: where one is, whether it is true, and what this tab may do.

import {html, nothing} from './vendor/lit-html.js';
import {allowedTo, app} from './app.js';
import {glyph} from './parts.js';
import {to} from './place.js';
import {address, link, live, troubles} from './status.js';
import {digits} from './text.js';

const SCREENS = [['now', 'Now'], ['maps', 'Maps'], ['members', 'Members'], ['stream', 'Stream'], ['access', 'Access']];

/** Header and navigation. */
export function header({place, me, status}) {
  const at = place.screen === 'map' || place.screen === 'key' ? 'maps' : place.screen;
  const number = me ? troubles(app).reduce((sum, group) => sum + group.count, 0) : 0;
  const badges = {now: number, members: app.members?.filter(({kind}) => kind === 'fired').length};
  return html`<a class="skip" href="#main" @click=${skip}>To the content</a>
    <header>
      <a class="brand" href=${to('now')}>${mark()}<span>coord</span></a>
      ${status ? html`<span class="namespace" title="namespace">${status.namespace}</span>
        <span class="address" title="server">${address(status)}</span>` : nothing}
      <span class="space"></span>
      ${me ? states() : nothing}
      ${me ? switches() : nothing}
      ${theme()}
    </header>
    <nav aria-label="Screens"><ul>
      ${SCREENS.map(([screen, word]) => html`<li><a href=${to(screen)} aria-current=${screen === at ? 'page' : nothing}
        ><span>${word}</span>${badges[screen] ? html`<span class=${screen === 'now' ? 'number alarm' : 'number'}
          >${digits(badges[screen])}</span>` : nothing}</a>${screen === 'maps' ? mapsBelow(place) : nothing}</li>`)}
    </ul></nav>`;
}

// Two arcs around a point: those who wait, and what they wait for.
const mark = () => html`<svg class="mark" viewBox="0 0 20 20" aria-hidden="true">
  <circle cx="10" cy="10" r="3" fill="currentColor"/>
  <path d="M4.6 4.6a7.6 7.6 0 0 0 0 10.8M15.4 4.6a7.6 7.6 0 0 1 0 10.8" fill="none" stroke="currentColor" stroke-width="2"
    stroke-linecap="round"/></svg>`;

function mapsBelow({map}) {
  const names = app.store.names.slice(0, 12);
  if (!names.length) return nothing;
  return html`<ul class="below">${names.map((name) => html`<li><a href=${to('map', name)}
    aria-current=${name === map ? 'true' : nothing}>${name}</a></li>`)}</ul>`;
}

function states() {
  const linked = link(app);
  const told = live(app.live);
  return html`<span class="pill ${linked.well ? '' : 'bad'}" title=${linked.why}>
      ${glyph(linked.well ? 'well' : 'warning')}<span class="of">link </span>${linked.words}</span>
    <span class="pill ${told.well ? '' : 'bad'}" title=${told.words}>
      ${glyph(told.word === 'paused' || !told.well ? 'warning' : 'fired')}<span class="of">page </span>${told.word}</span>`;
}

const CHANGES = ['fire', 'pulse', 'fail', 'reset', 'evict'];
const mayChange = () => app.store.names.some((name) => CHANGES.some((verb) => allowedTo(verb, name, '')))
  || app.me.rights.some((right) => CHANGES.includes(right.split(':')[0]) || right.startsWith('write:'));

function switches() {
  if (!mayChange()) return html`<span class="pill quiet" title="This token may change nothing.">read only</span>`;
  return html`<label class="allow ${app.allowed ? 'on' : ''}"><input type="checkbox" role="switch" .checked=${app.allowed}
    @change=${(event) => {
      app.allowed = event.target.checked;
      app.draw();
    }}><span>allow changes</span></label>`;
}

const theme = () => html`<button class="plain" type="button" title="Light or dark" aria-label="Light or dark" @click=${turn}>
  <svg class="glyph" viewBox="0 0 12 12" aria-hidden="true"><circle cx="6" cy="6" r="4.75" fill="none" stroke="currentColor"
    stroke-width="1.4"/><path d="M6 1.25a4.75 4.75 0 0 1 0 9.5z" fill="currentColor"/></svg></button>`;

function turn() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  try {
    localStorage.setItem('coord-theme', root.dataset.theme);
  } catch {
    // Then it lasts as long as the tab.
  }
}

function skip(event) {
  event.preventDefault();
  document.getElementById('main').focus();
}
