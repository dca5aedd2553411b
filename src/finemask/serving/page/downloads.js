// What is shown, as files: COCO and LabelMe to go on with, and the picture with its overlay.

import { bridged, isHole, isWider, partsOf, runLengths } from "./outlines.js";

const FILLED_HOLE_PX = 2; // in LabelMe, where each hole costs a bridge

const round = (value, digits) => Number(value.toFixed(digits));

/** A COCO annotation file of one picture: polygons, or run lengths of an object with holes, which polygons have not. */
export function cocoFile(answer, shown, name, categories) {
  const { width, height } = answer.image;
  return {
    info: { description: "found by finemask, to be looked at by a person" },
    images: [{ id: 1, file_name: name, width, height }],
    annotations: shown.filter(({ polygons }) => polygons.length).map((instance, k) => {
      const [left, top, right, bottom] = instance.box;
      const segmentation = instance.polygons.some(isHole)
        ? { size: [height, width], counts: runLengths(instance.polygons, answer.image) }
        : instance.polygons;
      return {
        id: k + 1, image_id: 1, category_id: instance.category_id, segmentation, area: instance.area,
        bbox: [left, top, right - left, bottom - top].map(side => round(side, 2)), iscrowd: 0, score: instance.score,
      };
    }),
    categories: categories.map(({ id, name: called }) => ({ id, name: called })),
  };
}

/** A LabelMe document, as `finemask predict save=[labelme]` writes it, beside its picture. */
export function labelmeFile(answer, shown, name) {
  const shapes = shown.flatMap(({ category, score, polygons }, k) => {
    const parts = partsOf(polygons);
    return parts.map(([outer, ...holes]) => ({
      label: category,
      points: bridged([outer, ...holes.filter(hole => isWider(hole, FILLED_HOLE_PX))]),
      group_id: parts.length > 1 ? k + 1 : null,
      description: `score ${score.toFixed(3)}`,
      shape_type: "polygon",
      flags: {},
    }));
  });
  const { width: imageWidth, height: imageHeight } = answer.image;
  return { version: "5.5.0", flags: {}, shapes, imagePath: name, imageData: null, imageHeight, imageWidth };
}

/** The name without its suffix. */
export const stem = name => name.replace(/\.[^./\\]{1,5}$/, "") || "picture";

export const jsonBlob = content => new Blob([`${JSON.stringify(content, null, 1)}\n`], { type: "application/json" });

/** Hands a file to the browser as a download. */
export function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it after the click
}
