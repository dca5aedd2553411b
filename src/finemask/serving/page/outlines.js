// Polygons of an answer: rings [x1, y1, x2, y2, …] along the edges of pixels, outer ones clockwise on the screen and
// holes the other way, to be filled by even and odd. Nothing here knows of the page.

/** Px²; above 0 if the ring runs clockwise on the screen. */
export function signedArea(ring) {
  let twice = 0;
  for (let k = 0, before = ring.length - 2; k < ring.length; before = k, k += 2) {
    twice += ring[before] * ring[k + 1] - ring[k] * ring[before + 1];
  }
  return twice / 2;
}

export const isHole = ring => signedArea(ring) < 0;

/** The connected parts of a mask: each an outer ring with the holes behind it, as the server lists them. */
export function partsOf(rings) {
  const parts = [];
  for (const ring of rings) {
    if (isHole(ring) && parts.length) parts.at(-1).push(ring);
    else parts.push([ring]);
  }
  return parts;
}

/** Points [[x, y], …] of a ring. */
export const pointsOf = ring => Array.from({ length: ring.length / 2 }, (_, k) => [ring[2 * k], ring[2 * k + 1]]);

/** Whether a hole is wider and higher than so many px. */
export function isWider(ring, px) {
  const points = pointsOf(ring);
  const along = k => points.map(point => point[k]);
  return [0, 1].every(k => Math.max(...along(k)) - Math.min(...along(k)) > px);
}

/**
 * One outline [[x, y], …] of a part, its holes joined to it by bridges without width, there and back again at the
 * nearest points: filled by even and odd, a bridge cancels itself.
 */
export function bridged([outer, ...holes]) {
  let path = pointsOf(outer);
  for (const hole of holes.map(pointsOf)) {
    let least = Infinity, here = 0, there = 0;
    hole.forEach(([x, y], k) => path.forEach(([u, v], at) => {
      const distance = (x - u) ** 2 + (y - v) ** 2;
      if (distance < least) [least, here, there] = [distance, k, at];
    }));
    path = [...path.slice(0, there + 1), ...hole.slice(here), ...hole.slice(0, here + 1), ...path.slice(there)];
  }
  return path;
}

/**
 * Run lengths of the mask, column by column from the upper left on and beginning with 0s, as COCO has them.
 *
 * A pixel belongs to the mask if its middle does, which gives back the very mask where rings follow edges of pixels.
 */
export function runLengths(rings, { width, height }) {
  const crossings = new Map(); // column -> where rings cross its middle
  for (const ring of rings) {
    for (let k = 0, before = ring.length - 2; k < ring.length; before = k, k += 2) {
      cross(crossings, ring[before], ring[before + 1], ring[k], ring[k + 1], width);
    }
  }
  const counts = [];
  let end = 0; // of the run before, in pixels from the upper left on
  for (const column of [...crossings.keys()].sort((a, b) => a - b)) {
    const heights = crossings.get(column).sort((a, b) => a - b);
    for (let k = 0; k + 1 < heights.length; k += 2) {
      const first = Math.max(0, Math.ceil(heights[k] - 0.5)), last = Math.min(height, Math.ceil(heights[k + 1] - 0.5));
      if (first >= last) continue;
      const start = column * height + first;
      if (start === end && counts.length) counts[counts.length - 1] += last - first; // over the end of a column
      else counts.push(start - end, last - first);
      end = column * height + last;
    }
  }
  if (end < width * height) counts.push(width * height - end);
  return counts;
}

function cross(crossings, x0, y0, x1, y1, width) {
  if (x0 === x1) return;
  const [left, right] = x0 < x1 ? [x0, x1] : [x1, x0];
  const first = Math.max(0, Math.ceil(left - 0.5)), last = Math.min(width, Math.ceil(right - 0.5));
  for (let column = first; column < last; column += 1) {
    const at = y0 + (column + 0.5 - x0) / (x1 - x0) * (y1 - y0);
    if (crossings.has(column)) crossings.get(column).push(at);
    else crossings.set(column, [at]);
  }
}
