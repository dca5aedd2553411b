// What is shown of an answer: thresholds, classes switched off, and how it is drawn. Nothing here knows of the page.

const ASKED_SCORE = 0.05; // what scores less is hardly ever an object, and would make large answers larger

/** How pictures are shown at first: at the server's thresholds, which are the model's own unless it was told others. */
export function firstSettings(info) {
  const { value, per_class: perClass } = info.threshold, { global, per_class: ofModel } = info.thresholds;
  const own = Object.fromEntries(info.categories.map(({ name }) => [name, perClass?.[name] ?? value]));
  const isOfModel = info.categories.every(({ name }) => own[name] === (ofModel?.[name] ?? global));
  return {
    own, whose: isOfModel ? "model" : "server", global: value ?? global,
    thresholds: { ...own },
    off: new Set(),
    masks: true, boxes: false, labels: true,
    colourBy: info.categories.length > 1 ? "class" : "object",
  };
}

/** The threshold of the one request for a picture: everything that the slider can bring up is in its answer. */
export function askedScore(settings) {
  return Math.min(ASKED_SCORE, ...Object.values(settings.own));
}

export const isAbove = (instance, settings) => instance.score >= settings.thresholds[instance.category];

export const isShown = (instance, settings) => !settings.off.has(instance.category) && isAbove(instance, settings);

export const shownOf = (instances, settings) => instances.filter(instance => isShown(instance, settings));

/** The one threshold of all classes; null where they have several. */
export function commonThreshold(settings) {
  const values = new Set(Object.values(settings.thresholds));
  return values.size === 1 ? [...values][0] : null;
}

export const isOwn = settings => Object.entries(settings.own).every(([name, own]) => settings.thresholds[name] === own);

export function setThreshold(settings, value, name = null) {
  for (const each of name === null ? Object.keys(settings.thresholds) : [name]) settings.thresholds[each] = value;
}

export const resetThresholds = settings => Object.assign(settings.thresholds, settings.own);

/** How many objects of each class an answer has, and how many of them are above their threshold: name -> counts. */
export function countsByClass(instances, settings) {
  const counts = new Map();
  for (const instance of instances) {
    const count = counts.get(instance.category) ?? { all: 0, above: 0 };
    count.all += 1;
    count.above += isAbove(instance, settings) ? 1 : 0;
    counts.set(instance.category, count);
  }
  return counts;
}

/** Heights 0..1 of `bins` equal steps of the score, for a picture of where an answer's scores lie. */
export function scoreHistogram(instances, bins) {
  const counts = new Array(bins).fill(0);
  for (const { score } of instances) counts[Math.min(bins - 1, Math.floor(score * bins))] += 1;
  const most = Math.max(1, ...counts);
  return counts.map(count => count / most);
}
