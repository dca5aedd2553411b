// Where a picture lies on the stage: screen = image × scale + (x, y), all in CSS px. Nothing here knows of the page.

const CLOSEST = 32; // CSS px that a pixel of the picture may take

/** The whole picture, as large as the stage has room for it, in its middle. */
export function fitted(stage, image) {
  const scale = Math.min(stage.width / image.width, stage.height / image.height, CLOSEST);
  return { scale, x: (stage.width - image.width * scale) / 2, y: (stage.height - image.height * scale) / 2 };
}

/** Nearer or farther, with the point (px, py) of the stage standing still; never smaller than fitted. */
export function zoomed(view, factor, px, py, stage, image) {
  const least = fitted(stage, image).scale;
  const scale = Math.min(Math.max(view.scale * factor, least), Math.max(CLOSEST, least));
  const ratio = scale / view.scale;
  return kept({ scale, x: px - (px - view.x) * ratio, y: py - (py - view.y) * ratio }, stage, image);
}

export const panned = (view, dx, dy, stage, image) => kept({ ...view, x: view.x + dx, y: view.y + dy }, stage, image);

/** Moved so that as much of the picture is on the stage as can be; in the middle where all of it is. */
export function kept(view, stage, image) {
  if (isFitted(view, stage, image)) return fitted(stage, image);
  const along = (at, room, length) => Math.min(Math.max(at, Math.min(0, room - length)), Math.max(0, room - length));
  return {
    scale: view.scale,
    x: along(view.x, stage.width, image.width * view.scale),
    y: along(view.y, stage.height, image.height * view.scale),
  };
}

/** The view that shows a box (xyxy, px of the picture) with room around it. */
export function around([left, top, right, bottom], stage, image) {
  const room = 0.5; // of the stage
  const width = Math.max(right - left, 1), height = Math.max(bottom - top, 1);
  const wanted = Math.min(stage.width * room / width, stage.height * room / height);
  const scale = Math.max(Math.min(wanted, CLOSEST / 2), fitted(stage, image).scale);
  const x = stage.width / 2 - (left + right) / 2 * scale, y = stage.height / 2 - (top + bottom) / 2 * scale;
  return kept({ scale, x, y }, stage, image);
}

export const isFitted = (view, stage, image) => view.scale <= fitted(stage, image).scale * 1.001;

export const toImage = (view, px, py) => [(px - view.x) / view.scale, (py - view.y) / view.scale];
