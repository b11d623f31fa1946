// Keys as a tree by their slashes, flattened to rows of one height; and which of these are in the document.

/** Rows for sorted keys: folders with what is below them, and keys. Folders with one child are joined with it. */
export function rows(keys, closed) {
  const root = folder('', '');
  for (const key of keys) insert(root, key);
  const found = [];
  flatten(root, 0, closed, found);
  return found;
}

/** The folders of a key, as `rows` names them: all that end with one of its slashes. */
export function above(key) {
  const found = [];
  for (let slash = key.indexOf('/', 1); slash > 0 && slash < key.length - 1; slash = key.indexOf('/', slash + 1)) {
    found.push(key.slice(0, slash + 1));
  }
  return found;
}

/** Every key as a row of its own, for filtered lists. */
export const flat = (keys) => keys.map((key) => ({key, label: key, depth: 0}));

const folder = (path, label) => ({path, label, folders: new Map(), keys: [], size: 0});

function insert(root, key) {
  let at = root;
  at.size += 1;
  // A slash at the beginning or the end belongs to its name.
  for (let from = 0, slash; (slash = key.indexOf('/', from + (from === 0 ? 1 : 0))) > 0 && slash < key.length - 1;) {
    const label = key.slice(from, slash + 1);
    const path = key.slice(0, slash + 1);
    if (!at.folders.has(label)) at.folders.set(label, folder(path, label));
    at = at.folders.get(label);
    at.size += 1;
    from = slash + 1;
  }
  at.keys.push({key, label: key.slice(at.path.length)});
}

function flatten(at, depth, closed, found) {
  for (let below of at.folders.values()) {
    let label = below.label;
    while (below.folders.size === 1 && below.keys.length === 0) {
      [below] = below.folders.values();
      label += below.label;
    }
    if (below.size === 1) {
      // A folder of one key would be a row that says nothing.
      const [{key}] = below.keys;
      found.push({key, label: key.slice(at.path.length), depth});
      continue;
    }
    const open = !closed.has(below.path);
    found.push({folder: below.path, label, depth, open, size: below.size});
    if (open) flatten(below, depth + 1, closed, found);
  }
  for (const {key, label} of at.keys) found.push({key, label, depth});
}

const AROUND = 12;
const FROM = 500;

/**
 * Which rows to draw: all of a short list, so that the browser finds each word in it, else those in sight and some
 * around them, and the one that has the focus. A short list, too, begins with those: 200 rows take 70 ms of computing.
 *
 * @param {number} total number of rows
 * @param {number} height of a row, in pixels
 * @param {{top: number, visible: number, first: boolean}} sight where the list begins to be seen, for how many pixels,
 *   and whether nothing of it is there yet
 */
export function inSight(total, height, {top, visible, first}, focused = -1) {
  if (total <= FROM && !first) return Array.from({length: total}, (_, index) => index);
  const from = Math.max(0, Math.floor(top / height) - AROUND);
  const to = Math.min(total, Math.ceil((top + visible) / height) + AROUND);
  const indices = Array.from({length: Math.max(0, to - from)}, (_, index) => from + index);
  if (focused >= 0 && focused < total && (focused < from || focused >= to)) indices.push(focused);
  return indices;
}
