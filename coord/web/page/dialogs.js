// Changes, one at a time: a button, and a dialog that says what it will do, where, and how a shell would.

import {html, nothing} from './vendor/lit-html.js';
import {API, make, newName, Problem} from './api.js';
import {allowedTo, announce, app, canChange} from './app.js';
import {coordLine, curlLine} from './lines.js';
import {address} from './status.js';
import {escaped, shown} from './text.js';

const VERBS = {
  fire: {word: 'Fire', does: 'Fires the key: everybody who waits, now or later, gets the value.', field: 'Value', initial: 'true', ttl: true},
  pulse: {word: 'Pulse', does: 'Wakes those who wait now; the key is pending afterwards.', field: 'Value', initial: 'true'},
  fail: {word: 'Fail', does: 'Fails the key: everybody who waits, now or later, gets the reason as an error.', field: 'Reason', initial: ''},
  reset: {word: 'Reset', does: 'Makes the key pending again.', only: true},
  evict: {word: 'Evict', does: 'Ends all holds of the key, and makes it pending. Whoever holds it is told.', danger: true},
};

/** The buttons for a key: those that the token has the right for, off until changes are allowed. */
export function buttons(state, map, key, record) {
  const verbs = useful(record).filter((verb) => allowedTo(verb, map, key));
  if (!verbs.length) return nothing;
  return html`<p class="buttons">${verbs.map((verb) => html`<button type="button" class=${VERBS[verb].danger ? 'danger' : ''}
    ?disabled=${!canChange(verb, map, key)} @click=${() => open(verb, map, key, record)}>${VERBS[verb].word}…</button>`)}
    ${state.allowed ? nothing : html`<span class="none">“Allow changes” at the top turns these on.</span>`}</p>`;
}

// What would change something: a call that the state of the key refuses, or that is too late, has no button.
function useful(record) {
  if (record?.held || record?.token) return ['evict'];
  if (record?.kind === 'counted' || record?.goal !== undefined || record?.corrupt) return ['reset'];
  if (!record?.latched) return ['fire', 'pulse', 'fail'];
  return record.expires_in === undefined ? ['pulse', 'reset'] : ['fire', 'pulse', 'reset'];
}

function open(verb, map, key, record) {
  const only = VERBS[verb].only && record?.revision && record.kind ? record.revision : undefined;
  app.dialog = {verb, map, key, text: VERBS[verb].initial, ttl: '', revision: only, typed: '', once: newName(), busy: false, problem: ''};
  app.draw();
}

// A value is JSON, or a string if it is none, as on the command line.
function valueOf({verb, text}) {
  if (!VERBS[verb].field) return undefined;
  try {
    return verb === 'fail' ? text : JSON.parse(text);
  } catch {
    return text;
  }
}

/** The call that a dialog describes. */
export function callOf(asked) {
  const options = {};
  if (asked.verb === 'evict') options.evict = true;
  if (asked.ttl) options.ttl = Number(asked.ttl);
  if (asked.revision) options.revision = asked.revision;
  return {verb: asked.verb === 'evict' ? 'reset' : asked.verb, map: asked.map, key: asked.key, value: valueOf(asked), options};
}

const ready = (asked) =>
  !asked.busy && (asked.verb !== 'evict' || asked.typed === asked.key) && !(asked.ttl && !(Number(asked.ttl) > 0));

/** The dialog that is open, if one is. */
export function dialog({dialog: asked, status, me}) {
  if (!asked) return nothing;
  const verb = VERBS[asked.verb];
  const where = {api: API, server: address(status), namespace: status?.namespace, token: me.name !== 'anonymous'};
  const set = (change) => {
    Object.assign(asked, change);
    app.draw();
  };
  return html`<dialog id="change" aria-labelledby="change-title" @cancel=${close} @submit=${submit}>
    <form method="dialog">
      <h2 id="change-title">${verb.word} ${shown(asked.key)}</h2>
      <p>${verb.does}</p>
      <dl class="target"><div><dt>Namespace</dt><dd>${status?.namespace ?? '?'}</dd></div>
        <div><dt>Server</dt><dd>${address(status) || '?'}</dd></div><div><dt>Map</dt><dd>${asked.map}</dd></div></dl>
      ${verb.field ? html`<label class="field">${verb.field}<textarea rows="2" spellcheck="false" autofocus
        .value=${verb.initial} @input=${(event) => set({text: event.target.value})}></textarea></label>
        ${asked.verb === 'fail' ? nothing : html`<p class="none">${kindOf(asked)}</p>`}` : nothing}
      ${verb.ttl ? html`<label class="field short">Ends by itself after so many seconds (or never)<input inputmode="decimal" autocomplete="off"
        @input=${(event) => set({ttl: event.target.value.trim()})}></label>` : nothing}
      ${verb.only && asked.revision ? html`<p class="none">Only if it still has the revision <code>${asked.revision}</code>.</p>` : nothing}
      ${verb.danger ? html`<label class="field">Type the key to confirm: ${escaped(asked.key)}<input autocomplete="off" spellcheck="false"
        autofocus @input=${(event) => set({typed: event.target.value})}></label>` : nothing}
      ${line('coord', coordLine(callOf(asked), where))}
      ${line('curl', curlLine(callOf(asked), where, asked.once))}
      <p class="problem" role="alert">${asked.problem}</p>
      <p class="actions"><button type="button" @click=${close}>Cancel</button>
        <button class=${verb.danger ? 'danger' : 'main'} ?disabled=${!ready(asked)}>${verb.word}</button></p>
    </form></dialog>`;
}

function kindOf(asked) {
  const value = valueOf(asked);
  return typeof value === 'string' && value === asked.text ? 'Not JSON, so it is a string.' : 'JSON.';
}

const line = (name, text) => html`<div class="line"><label><span>${name}</span><textarea readonly rows="2" .value=${text}
  @focus=${(event) => event.target.select()}></textarea></label>
  <button type="button" @click=${(event) => copy(event, text)}>Copy</button></div>`;

async function copy(event, text) {
  const button = event.currentTarget;
  const field = button.parentElement.querySelector('textarea');
  field.select();
  try {
    // On plain http there is no clipboard: the text is selected, for the keys that copy.
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    field.focus();
    announce('The line is selected: copy it with the keyboard.');
  }
}

function close(event) {
  event?.preventDefault();
  app.dialog = null;
  app.draw();
}

async function submit(event) {
  event.preventDefault();
  const asked = app.dialog;
  if (!ready(asked)) return;
  Object.assign(asked, {busy: true, problem: ''});
  app.draw();
  try {
    const {first} = await make(callOf(asked), asked.once);
    announce(first ? `${VERBS[asked.verb].word}: done.` : 'Nothing changed: another call was first.');
    if (first) return close();
    asked.problem = 'Nothing changed: the key was so already, or has changed meanwhile.';
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    asked.problem = problem.status === 412 ? 'Nothing changed: the key has changed meanwhile.' : `${problem.message}${applied(problem)}`;
  }
  asked.busy = false;
  app.draw();
}

const applied = ({body, status}) =>
  body.applied === false ? ' Nothing was applied.' : body.applied === true ? ' It was applied.'
    : status === 0 || body.applied === 'unknown' ? ' It may have been applied; the same call again is safe.' : '';
