// Draws a picture with its objects: on the stage at any zoom, and at full size for the file that is downloaded.

const FILL = 0.42, FAINT_FILL = 0.14; // as overlays of `finemask predict` have it; and beside one that is pointed at
const OUTLINE_PX = 2, BOX_PX = 1;
const PIXELS_SHOW_AT = 6; // CSS px that a pixel takes: from there on it is a square, not a blur
const LEAST_FONT_PX = 11, MOST_FONT_PX = 72;
const MOST_COVERED = 0.2; // of the picture, by labels
const MOST_PLATE_TO_BOX = 2; // area of a label to that of its box

/** Near-black or white, whichever has the higher contrast (WCAG) on a colour "#rrggbb". */
export function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16) / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.056 ? "#ffffff" : "#101010";
}

const paths = new WeakMap(); // instance -> its outline, in px of the picture

export function pathOf(instance) {
  if (!paths.has(instance)) {
    const path = new Path2D();
    for (const ring of instance.polygons) {
      for (let k = 0; k < ring.length; k += 2) k ? path.lineTo(ring[k], ring[k + 1]) : path.moveTo(ring[0], ring[1]);
      path.closePath();
    }
    paths.set(instance, path);
  }
  return paths.get(instance);
}

/**
 * Draws.
 *
 * @param context of a canvas, cleared by this.
 * @param scene bitmap (null: it cannot be shown; one that was closed has no width), image {width, height}, instances,
 *   settings, colourOf(instance), chosen (an instance or null), empty (the colour where there is no bitmap).
 * @param view of viewport.js, in px of the canvas ÷ ratio.
 * @param ratio px of the canvas to one of the view; lines and letters are so many times as thick.
 */
export function draw(context, scene, view, ratio, fontPx = 12) {
  const { image, settings, chosen } = scene;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  const scale = view.scale * ratio; // from here on in px of the picture
  context.setTransform(scale, 0, 0, scale, view.x * ratio, view.y * ratio);
  context.imageSmoothingEnabled = view.scale < PIXELS_SHOW_AT;
  context.imageSmoothingQuality = "high";
  if (scene.bitmap?.width) context.drawImage(scene.bitmap, 0, 0, image.width, image.height);
  else context.fillStyle = scene.empty, context.fillRect(0, 0, image.width, image.height);
  const bySize = [...scene.instances].sort((a, b) => b.area - a.area); // so that none is hidden under a large one
  context.lineJoin = "round";
  if (settings.masks) {
    for (const instance of bySize) {
      context.globalAlpha = chosen && instance !== chosen ? FAINT_FILL : FILL;
      context.fillStyle = scene.colourOf(instance);
      context.fill(pathOf(instance), "evenodd");
    }
  }
  for (const instance of bySize) {
    const isChosen = instance === chosen;
    context.globalAlpha = chosen && !isChosen ? 0.5 : 1;
    context.strokeStyle = scene.colourOf(instance);
    if (settings.masks || isChosen) {
      context.lineWidth = OUTLINE_PX / view.scale;
      context.stroke(pathOf(instance));
    }
    if (settings.boxes || isChosen) frame(context, instance.box, (isChosen ? 1.5 : 1) * BOX_PX / view.scale);
  }
  context.globalAlpha = 1;
  if (settings.labels && !chosen) {
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    drawLabels(context, scene, view, fontPx);
  }
}

function frame(context, [left, top, right, bottom], width) {
  context.lineWidth = width;
  context.strokeRect(left, top, right - left, bottom - top);
}

/** Labels inside the picture and off one another; none where they would bury it. */
function drawLabels(context, scene, view, fontPx) {
  context.font = `600 ${fontPx}px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif`;
  context.textBaseline = "middle";
  const pad = Math.round(fontPx / 3), height = fontPx + pad;
  const boxes = scene.instances.map(({ box }) => box.map((side, k) => side * view.scale + (k % 2 ? view.y : view.x)));
  const bounds = [view.x, view.y, view.x + scene.image.width * view.scale, view.y + scene.image.height * view.scale];
  const measured = new Map();
  const widthOf = text => {
    if (!measured.has(text)) measured.set(text, context.measureText(text).width + 2 * pad);
    return measured.get(text);
  };
  const plates = chosenPlates(captionsOf(scene), boxes, widthOf, height, bounds);
  const taken = [];
  plates.forEach((plate, k) => {
    const spot = plate && freeSpot(plate, boxes[k], taken, bounds);
    if (!spot) return;
    taken.push(spot);
    const colour = scene.colourOf(scene.instances[k]);
    context.fillStyle = colour;
    context.fillRect(spot[0], spot[1], plate.width, plate.height);
    context.fillStyle = inkOn(colour);
    context.fillText(plate.text, spot[0] + pad, spot[1] + plate.height / 2 + 0.5);
  });
}

/** What labels say, and what they say where that is too much; with one class, its name goes without saying. */
function captionsOf({ instances, settings }) {
  const scores = instances.map(({ score }) => score.toFixed(2));
  if (Object.keys(settings.own).length === 1) return [scores];
  const names = instances.map(({ category }) => category);
  return [names.map((name, k) => `${name} ${scores[k]}`), names];
}

/** With scores, without, or none at all: the first that leaves the picture to be seen. */
export function chosenPlates(texts, boxes, widthOf, height, [left, top, right, bottom]) {
  for (const these of texts) {
    const plates = these.map((text, k) => {
      const plate = { text, width: widthOf(text), height }, [x0, y0, x1, y1] = boxes[k];
      return plate.width * height <= MOST_PLATE_TO_BOX * (x1 - x0) * (y1 - y0) ? plate : null;
    });
    const covered = plates.reduce((sum, plate) => sum + (plate ? plate.width * plate.height : 0), 0);
    if (covered <= MOST_COVERED * (right - left) * (bottom - top)) return plates;
  }
  return texts[0].map(() => null);
}

/** Above the box, in its upper edge, below it or in its lower edge; at its left or its right: xyxy, or null. */
export function freeSpot({ width, height }, [x0, y0, x1, y1], taken, [left, top, right, bottom]) {
  for (const x of [x0, x1 - width]) {
    for (const y of [y0 - height, y0, y1, y1 - height]) {
      const at = Math.min(Math.max(x, left), Math.max(right - width, left));
      if (y < top || y + height > bottom) continue;
      const hits = taken.some(([a, b, c, d]) => a < at + width && c > at && b < y + height && d > y);
      if (!hits) return [at, y, at + width, y + height];
    }
  }
  return null;
}

let scratch = null;

/** The smallest of the instances that has the point (x, y), px of the picture, on it; null if none has. */
export function instanceAt(instances, x, y) {
  scratch ??= document.createElement("canvas").getContext("2d");
  let found = null;
  for (const instance of instances) {
    const [left, top, right, bottom] = instance.box;
    if (x < left - 1 || x > right + 1 || y < top - 1 || y > bottom + 1) continue;
    const isSmaller = !found || instance.area < found.area;
    if (isSmaller && scratch.isPointInPath(pathOf(instance), x, y, "evenodd")) found = instance;
  }
  return found;
}

/** A canvas of the picture's own size with what the stage shows. */
export function fullSize(scene) {
  const { width, height } = scene.image;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const longer = Math.max(width, height);
  const fontPx = Math.min(Math.max(Math.round(longer / 62), LEAST_FONT_PX), MOST_FONT_PX);
  const thickness = Math.max(1, Math.round(longer / 420)) / OUTLINE_PX; // lines grow with the picture
  const view = { scale: 1 / thickness, x: 0, y: 0 };
  draw(canvas.getContext("2d"), { ...scene, chosen: null }, view, thickness, fontPx / thickness);
  return canvas;
}
