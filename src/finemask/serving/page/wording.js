// Numbers and counts in words.

export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export const pixels = area => `${Math.round(area).toLocaleString("en")} px`;

export const twoDigits = value => value.toFixed(2);

export function share(area, image) {
  const percent = 100 * area / (image.width * image.height);
  return percent >= 9.95 ? `${percent.toFixed(0)} %` : percent >= 0.05 ? `${percent.toFixed(1)} %` : "< 0.1 %";
}

export const sides = ([left, top, right, bottom]) => `${Math.round(right - left)} × ${Math.round(bottom - top)}`;

export function mebibytes(bytes) {
  const value = bytes / 2 ** 20;
  if (value < 1) return `${Math.ceil(bytes / 1024)} KiB`;
  return `${value >= 10 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)} MiB`;
}

export const seconds = ms => ms < 100 ? `${Math.max(1, Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`;

/** One object, for those who do not see it. */
export function inWords({ category, score, area, box }, image) {
  const size = `${pixels(area)}, ${share(area, image)} of the picture, ${sides(box)}`;
  return `${category}, score ${twoDigits(score)}, ${size}.`;
}

/** "3 figs" would have to know English: "3 × fig, 1 × date", most first. */
export function listed(instances) {
  const counts = new Map();
  for (const { category } of instances) counts.set(category, (counts.get(category) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} × ${name}`).join(", ");
}

/** What screen readers are told, and what stands over the picture. */
export function outcome(all, shown, thresholdWords, hasOneClass) {
  if (!all) return "nothing found";
  if (!shown.length) return `none of ${plural(all, "object")} is shown, ${thresholdWords}`;
  const classes = hasOneClass ? "" : ` (${listed(shown)})`;
  return `${plural(shown.length, "object")}${classes}, ${thresholdWords}`;
}
