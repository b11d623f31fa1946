// What the token of this page may do: the grammar of the gateway, read once more so that no button lies.

const GROUPS = {write: ['fire', 'fail', 'pulse', 'reset']};

/** A right VERB:MAP[/KEYPREFIX*] in its parts; the first slash ends the map. */
export function parse(right) {
  const colon = right.indexOf(':');
  const verb = colon < 0 ? right : right.slice(0, colon);
  const rest = colon < 0 ? '*' : right.slice(colon + 1);
  if (verb === 'join') return {verb, map: '@members', key: rest};
  const slash = rest.indexOf('/');
  return {verb, map: slash < 0 ? rest : rest.slice(0, slash), key: slash < 0 ? '*' : rest.slice(slash + 1)};
}

const matches = (pattern, text) =>
  pattern.endsWith('*') ? text.startsWith(pattern.slice(0, -1)) : pattern === text;

/** Whether the rights allow a verb on a key; without a key, on every key of the map. */
export function may(rights, verb, map, key) {
  // Members come and go by `join` alone.
  if (map === '@members' && verb !== 'read' && verb !== 'join') return false;
  return rights.map(parse).some(
    (right) =>
      (right.verb === verb || GROUPS[right.verb]?.includes(verb)) &&
      (right.map === '*' || right.map === map) &&
      (key === undefined ? right.key === '*' : matches(right.key, key)),
  );
}

const WORDS = {
  read: 'read, wait and watch', write: 'fire, fail, pulse and reset', evict: 'end the holds of others',
  hold: 'hold', lock: 'own locks', count: 'count', ack: 'acknowledge', join: 'join as a member', metrics: 'read the metrics',
};

/** A right in words: what, and where. */
export function inWords(right) {
  const {verb, map, key} = parse(right);
  const where = map === '*' ? 'every map' : `map ${map}`;
  const which = key === '*' ? 'every key' : key.endsWith('*') ? `keys that begin with ${key.slice(0, -1)}` : `the key ${key}`;
  return {what: WORDS[verb] ?? verb, where: verb === 'metrics' ? 'the gateway' : `${which} of ${where}`};
}
