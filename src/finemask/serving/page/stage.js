// The stage: the picture with what was found, at any zoom, and a note on what is pointed at.

import { draw, instanceAt } from "./drawing.js";
import { Gestures } from "./gestures.js";
import { around } from "./viewport.js";
import { pixels, share, sides, twoDigits } from "./wording.js";

const AWAY_PX = 14; // of the note, from what it is about
const ZOOM = 1.5; // of a press on a button

export class Stage {
  /**
   * @param root the element with the canvas and the note of demo.html.j2.
   * @param zoom the element with its buttons.
   * @param on.chosen(instance or null) when another one is pointed at, or none; on.order() the instances in the order
   *   in which the keys N and P go through them.
   */
  constructor(root, zoom, on) {
    Object.assign(this, { root, on, scene: null, pointed: null, pinned: null, view: null });
    this.canvas = root.querySelector("canvas");
    this.note = root.querySelector(".note-on");
    this.gestures = new Gestures(root, {
      view: view => { this.view = view; this.paint(); },
      point: (at, local) => this.point(at && instanceAt(this.scene.instances, ...at), local),
      tap: at => this.pin(instanceAt(this.scene.instances, ...at)),
      step: by => this.step(by),
      leave: () => this.pin(null),
    });
    const button = (name, act) => zoom.querySelector(`[name=${name}]`).addEventListener("click", act);
    button("closer", () => this.gestures.zoomBy(ZOOM));
    button("farther", () => this.gestures.zoomBy(1 / ZOOM));
    button("whole", () => this.gestures.fit());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
    document.getElementById("theme")?.addEventListener("click", () => this.paint());
  }

  get chosen() { return this.pointed ?? this.pinned; }

  /** A scene of drawing.js, or null; another picture is shown whole, the same one as it lies. */
  show(scene) {
    const isAnother = scene?.image !== this.scene?.image;
    this.scene = scene;
    if (isAnother) this.pointed = this.pinned = null;
    const isGone = instance => instance && !scene?.instances.includes(instance);
    if (isGone(this.pointed)) this.pointed = null;
    if (isGone(this.pinned)) this.pinned = null;
    this.root.classList.toggle("with-picture", Boolean(scene));
    if (scene) this.root.style.setProperty("--aspect", scene.image.width / scene.image.height);
    if (isAnother) this.gestures.show(scene?.image ?? null);
    else this.paint();
  }

  point(instance, local = null) {
    const isAnother = instance !== this.pointed;
    this.pointed = instance;
    if (isAnother) this.changed();
    this.place(local);
  }

  pin(instance) {
    this.pinned = instance === this.pinned ? null : instance;
    this.pointed = null;
    this.changed();
    this.place();
  }

  step(by) {
    const order = this.on.order();
    if (!order.length) return;
    const at = order.indexOf(this.pinned);
    this.pinned = order[at < 0 ? (by > 0 ? 0 : order.length - 1) : (at + by + order.length) % order.length];
    this.pointed = null;
    this.changed();
    this.place();
  }

  /** Brings an instance near. */
  visit(instance) {
    this.pinned = instance;
    this.gestures.to(around(instance.box, this.gestures.room, this.scene.image));
    this.changed();
  }

  changed() {
    this.on.chosen(this.chosen);
    this.paint();
  }

  paint() {
    if (this.painting) return;
    this.painting = requestAnimationFrame(() => { this.painting = null; this.paintNow(); });
  }

  paintNow() {
    const { width, height } = this.gestures.room, ratio = devicePixelRatio || 1;
    const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
    const isResized = this.canvas.width !== columns || this.canvas.height !== rows;
    if (isResized) Object.assign(this.canvas, { width: columns, height: rows });
    const context = this.canvas.getContext("2d");
    if (!this.scene || !this.view) {
      context.clearRect(0, 0, columns, rows);
      this.note.hidden = true;
      return;
    }
    const empty = getComputedStyle(this.root).getPropertyValue("--rule");
    draw(context, { ...this.scene, chosen: this.chosen, empty }, this.view, ratio);
    this.place();
  }

  /** The note, beside the pointer (a place on the stage) or, without one, beside the instance. */
  place(pointer = null) {
    const { chosen, note, scene } = this;
    note.hidden = !chosen || !scene;
    if (note.hidden) return;
    this.pointer = pointer ?? (this.pointed ? this.pointer : null);
    const [name, facts, size] = note.children;
    name.firstElementChild.style.setProperty("--key", scene.colourOf(chosen));
    name.lastElementChild.textContent = chosen.category;
    facts.textContent = `score ${twoDigits(chosen.score)}`;
    size.textContent = `${pixels(chosen.area)} (${share(chosen.area, scene.image)}), ${sides(chosen.box)}`;
    const [left, top] = this.spotFor(note.offsetWidth, note.offsetHeight);
    note.style.left = `${left}px`;
    note.style.top = `${top}px`;
  }

  /** Where a note of that size stands off what it is about: the first place of several that is on the stage. */
  spotFor(width, height) {
    const { scale, x, y } = this.view, [x0, y0, x1, y1] = this.chosen.box, room = this.gestures.room;
    const [left, top] = [Math.max(x0 * scale + x, 4), Math.max(y0 * scale + y, 4)];
    const [right, bottom] = [Math.min(x1 * scale + x, room.width), Math.min(y1 * scale + y, room.height)];
    const [px, py] = this.pointer ?? [];
    const beside = [[right + AWAY_PX, top], [left - AWAY_PX - width, top]];
    const spots = this.pointer
      ? [px + AWAY_PX, px - AWAY_PX - width].flatMap(at => [[at, py + AWAY_PX], [at, py - AWAY_PX - height]])
      : [...beside, [left, bottom + AWAY_PX], [left, top - AWAY_PX - height]];
    const isOnStage = ([a, b]) => a >= 0 && b >= 0 && a + width <= room.width && b + height <= room.height;
    return spots.find(isOnStage) ?? [4, Math.max(4, room.height - height - 4)];
  }
}
