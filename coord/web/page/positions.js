// Where one is in the order of changes: the revision of a record, and the position of a stream in each of its maps.

// Revisions are GENERATION.NUMBER. A generation has up to 16 digits, more than a number holds exactly.
const compareDigits = (one, other) => one.length - other.length || (one < other ? -1 : one > other ? 1 : 0);

/** Compare two revisions: negative, 0 or positive. A missing one comes before all others. */
export function compare(one, other) {
  if (!one || !other) return (one ? 1 : 0) - (other ? 1 : 0);
  const [generation, number] = one.split('.');
  const [otherGeneration, otherNumber] = other.split('.');
  return compareDigits(generation, otherGeneration) || compareDigits(number, otherNumber);
}

/** The id of an event of a stream of these maps, always in the form of several: MAP@REVISION,... */
export const whole = (id, maps) => (maps.length === 1 && !id.includes('@') ? `${maps[0]}@${id}` : id);

/** The revision in each map that the stream has reached. */
export function parse(id) {
  const parts = (id ? id.split(',') : []).map((part) => {
    const at = part.lastIndexOf('@');
    return [part.slice(0, at), part.slice(at + 1)];
  });
  return new Map(parts.filter(([, position]) => position.includes('.')));
}

/** Where a stream of these maps begins: at the known revisions, elsewhere now. */
export const since = (maps, known) => maps.map((map) => `${map}@${known.get(map) ?? 'now'}`).join(',');
