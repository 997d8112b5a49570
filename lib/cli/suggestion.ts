/** Suggests the word that a mistyped one was meant to be. */

/** A suggestion may differ in one character, and in one more for each this many of the word. */
const CHARACTERS_PER_EDIT = 3;
/** A word of at least this many characters also suggests words that begin with it. */
const PREFIX_CHARACTERS_MIN = 2;

/** The candidate nearest to `word`, or null when none is near. */
export function nearest(word: string, candidates: Iterable<string>): string | null {
  const edits_max = Math.max(1, Math.floor(word.length / CHARACTERS_PER_EDIT));
  let found: { candidate: string; edits: number } | null = null;
  if (word.length < PREFIX_CHARACTERS_MIN) return null;
  for (const candidate of candidates) {
    const edits = candidate.startsWith(word) ? 0 : editDistance(word, candidate);
    if (edits <= edits_max && edits < (found?.edits ?? Infinity)) found = { candidate, edits };
  }
  return found?.candidate ?? null;
}

/** `: did you mean "balance"?` for the nearest candidate, or nothing. */
export function didYouMean(word: string, candidates: Iterable<string>): string {
  const found = nearest(word, candidates);
  return found === null ? "" : `: did you mean "${found}"?`;
}

/**
 * Counts the characters to insert, delete, replace or swap with their neighbour to turn `left` into
 * `right` (the optimal string alignment distance).
 */
export function editDistance(left: string, right: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const same = left[row - 1] === right[column - 1];
      let edits = Math.min(
        last[column]! + 1,
        current[column - 1]! + 1,
        last[column - 1]! + (same ? 0 : 1),
      );
      const swapped = row > 1 && column > 1 && left[row - 1] === right[column - 2] &&
        left[row - 2] === right[column - 1];
      if (swapped) edits = Math.min(edits, beforeLast[column - 2]! + 1);
      current.push(edits);
    }
    [beforeLast, last] = [last, current];
  }
  return last[right.length]!;
}
