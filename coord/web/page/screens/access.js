// What this token may do, and how to use another one.

import {html, nothing} from '../vendor/lit-html.js';
import {app, logOut, signIn, useToken} from '../app.js';
import {badge, empty} from '../parts.js';
import {inWords} from '../rights.js';
import {address} from '../status.js';
import {clock, count} from '../text.js';

export const access = {draw};

function draw({me, status}) {
  const anonymous = me.anonymous ?? me.name === 'anonymous';
  return html`<h1 tabindex="-1">What this token may do</h1>
    <dl class="details">
      <div><dt>Name</dt><dd>${anonymous ? 'no token: anonymous' : html`<bdi>${me.name}</bdi>`}</dd></div>
      ${me.expires ? html`<div><dt>Expires</dt><dd>${clock(me.expires)}</dd></div>` : nothing}
      ${status ? html`<div><dt>Namespace</dt><dd>${status.namespace}</dd></div>
        <div><dt>Server</dt><dd>${address(status)}</dd></div>` : nothing}
      ${status ? html`<div><dt>Gateway</dt><dd>${status.gateway} <span class="none">version ${status.version}, ${count(status.streams, 'stream')}</span></dd></div>` : nothing}
    </dl>
    ${me.rights.length ? rights(me.rights) : empty('It may do nothing.')}
    <p>${anonymous ? html`<button type="button" class="main" @click=${() => signIn('')}>Log in with a token</button>`
      : html`<button type="button" @click=${logOut}>Log out</button>`}</p>
    <p class="none">Who keeps the gateway gives rights in <code>web.toml</code>; <code>coord web token NAME</code> makes a token.</p>`;
}

const rights = (all) => html`<table class="rights"><caption class="unseen">Rights</caption>
  <thead><tr><th scope="col">May</th><th scope="col">On</th><th scope="col">Right</th></tr></thead>
  <tbody>${all.map((right) => {
    const {what, where} = inWords(right);
    return html`<tr><td>${badge('well', what)}</td><td><bdi>${where}</bdi></td><td><code>${right}</code></td></tr>`;
  })}</tbody></table>`;

/** The form for a token, over whatever screen one is on. */
export function signInDialog({signIn: asked, me}) {
  if (!asked) return nothing;
  return html`<dialog id="sign-in" aria-labelledby="sign-in-title" @cancel=${close} @submit=${submit}>
    <form method="dialog">
      <h2 id="sign-in-title">Log in</h2>
      <p>${asked.why} Paste a token; it is exchanged for a cookie and not kept.</p>
      <label class="field">Token<input type="password" name="token" autocomplete="off" spellcheck="false" required autofocus></label>
      <p class="problem" role="alert">${asked.problem}</p>
      <p class="actions">${me?.rights.length ? html`<button type="button" @click=${close}>Cancel</button>` : nothing}
        <button class="main" ?disabled=${asked.busy}>Log in</button></p>
    </form></dialog>`;
}

function close(event) {
  event.preventDefault();
  app.signIn = null;
  app.draw();
}

function submit(event) {
  event.preventDefault();
  useToken(new FormData(event.target).get('token').trim());
}
