// The nodes that have joined, and those that are gone.

import {html, nothing} from '../vendor/lit-html.js';
import {readMembers} from '../app.js';
import {badge, empty, refused, value} from '../parts.js';
import {header, ordered, TIMES} from '../place.js';
import {clock, digits, when} from '../text.js';

export const members = {
  entered: () => readMembers(),
  draw,
};

function draw(app) {
  const {members: all, membersProblem, place} = app;
  const alive = (all ?? []).filter(({kind}) => kind === 'fired').sort((one, other) => (one.name < other.name ? -1 : 1));
  const gone = (all ?? []).filter(({kind}) => kind !== 'fired').sort((one, other) => other.since - one.since);
  return html`<h1 tabindex="-1">Members</h1>
    ${membersProblem ? empty(refused(membersProblem)) : nothing}
    ${alive.length ? table(app, 'Members', 'Since', ordered(alive, place, COLUMNS)) : all ? empty('No node has joined.', join) : nothing}
    ${gone.length ? html`<h2>Left or died in the last hour <span class="number">${digits(gone.length)}</span></h2>
      ${table(app, 'Left or died', 'When', ordered(gone, place, COLUMNS))}` : nothing}`;
}

const join = html`In Python: <code>await c.join(value)</code>; in a shell: <code>coord on MAP --join -- COMMAND</code>.`;

const WORDS = {fired: ['held', 'alive'], withdrawn: ['withdrawn', 'left'], expired: ['expired', 'died']};

const COLUMNS = {node: ({name}) => name, state: ({kind}) => kind, since: ({since}) => since};

const table = (app, caption, time, rows) => html`<table class="members sorts"><caption class="unseen">${caption}</caption>
  <thead><tr>${header(app, 'node', 'Node')}${header(app, 'state', 'State')}<th scope="col">Value</th>${header(app, 'since', time, TIMES)}</tr></thead>
  <tbody>${rows.map((member) => html`<tr>
    <th scope="row"><bdi>${member.name}</bdi></th>
    <td class=${member.kind === 'expired' ? 'what bad' : 'what'}>${badge(...(WORDS[member.kind] ?? [member.kind]))}</td>
    <td class="with">${value({kind: 'fired', value: member.value})}</td>
    <td class="time"><span class="exact">${clock(member.since)}</span> <span class="none">${when(member.since)} ago</span></td></tr>`)}</tbody></table>`;
