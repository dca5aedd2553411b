// Wheel, pinch, drag and keys on the stage become a view; pointing and tapping become a point of the picture.

import { fitted, isFitted, kept, panned, toImage, zoomed } from "./viewport.js";

const STEP = 1.25, PAN_PX = 60, TAP_PX = 6;

/** Zoom, pan and pointing on an element. */
export class Gestures {
  /**
   * @param stage the element; events reach it wherever the picture is.
   * @param on.view(view) after each change; on.point(xy or null, place) for what is hovered over; on.tap(xy, place),
   *   where xy is in px of the picture, place in px of the stage; on.step(±1), on.leave() for the keys N, P and Escape.
   */
  constructor(stage, on) {
    Object.assign(this, { stage, on, image: null, view: null, pointers: new Map(), travelled: 0, gap: 0 });
    stage.addEventListener("wheel", event => this.wheel(event), { passive: false });
    stage.addEventListener("pointerdown", event => this.down(event));
    stage.addEventListener("pointermove", event => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, event => this.up(event));
    stage.addEventListener("pointerleave", () => this.on.point(null));
    stage.addEventListener("dblclick", event => this.zoomBy(2, ...this.local(event)));
    stage.addEventListener("keydown", event => this.key(event));
    new ResizeObserver(() => this.resized()).observe(stage);
  }

  get room() { return { width: this.stage.clientWidth, height: this.stage.clientHeight }; }

  /** Another picture, {width, height}, whole; null for none. */
  show(image) {
    this.image = image;
    this.pointers.clear();
    this.to(image && fitted(this.room, image));
  }

  fit() { if (this.image) this.to(fitted(this.room, this.image)); }

  zoomBy(factor, px = this.room.width / 2, py = this.room.height / 2) {
    if (this.image) this.to(zoomed(this.view, factor, px, py, this.room, this.image));
  }

  to(view) {
    this.view = view;
    const whole = !view || isFitted(view, this.room, this.image);
    this.stage.classList.toggle("closer", !whole); // a finger then moves the picture, not the page
    this.on.view(view);
  }

  resized() {
    if (!this.image) return;
    const whole = !this.stage.classList.contains("closer");
    this.to(whole ? fitted(this.room, this.image) : kept(this.view, this.room, this.image));
  }

  local(event) {
    const { left, top } = this.stage.getBoundingClientRect();
    return [event.clientX - left - this.stage.clientLeft, event.clientY - top - this.stage.clientTop];
  }

  wheel(event) {
    if (!this.image || event.target.closest("button")) return;
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const delta = Math.max(-200, Math.min(200, event.deltaY * lines));
    if (delta >= 0 && isFitted(this.view, this.room, this.image) && !event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    const speed = event.ctrlKey ? 0.01 : 0.002; // with ctrl it is a pinch on a touchpad
    const place = this.local(event);
    this.zoomBy(Math.exp(-delta * speed), ...place);
    this.on.point(toImage(this.view, ...place), place);
  }

  down(event) {
    if (!this.image || event.button || event.target.closest("button")) return;
    this.pointers.set(event.pointerId, this.local(event));
    if (event.pointerType !== "touch" || this.stage.classList.contains("closer")) this.capture(event.pointerId);
    this.travelled = this.pointers.size > 1 ? Infinity : 0;
    this.gap = this.spread();
  }

  capture(id) {
    try { this.stage.setPointerCapture(id); } catch { /* it has been lifted already */ }
  }

  move(event) {
    if (!this.image) return;
    const now = this.local(event), before = this.pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") this.on.point(toImage(this.view, ...now), now);
      return;
    }
    const dx = now[0] - before[0], dy = now[1] - before[1];
    this.pointers.set(event.pointerId, now);
    this.travelled += Math.hypot(dx, dy);
    if (this.pointers.size === 1) {
      if (this.travelled > TAP_PX) this.on.point(null), this.to(panned(this.view, dx, dy, this.room, this.image));
      return;
    }
    const gap = this.spread(), [px, py] = this.middle();
    if (this.gap > 0) this.view = zoomed(this.view, gap / this.gap, px, py, this.room, this.image);
    this.gap = gap;
    this.to(panned(this.view, dx / this.pointers.size, dy / this.pointers.size, this.room, this.image));
  }

  up(event) {
    const was = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    this.gap = this.spread();
    if (was && event.type === "pointerup" && this.travelled <= TAP_PX) this.on.tap(toImage(this.view, ...was), was);
  }

  /** Mean distance of the pointers from their middle. */
  spread() {
    const [x, y] = this.middle(), all = [...this.pointers.values()];
    return all.length < 2 ? 0 : all.reduce((sum, [px, py]) => sum + Math.hypot(px - x, py - y), 0) / all.length;
  }

  middle() {
    const all = [...this.pointers.values()], count = Math.max(all.length, 1);
    return [0, 1].map(k => all.reduce((sum, point) => sum + point[k], 0) / count);
  }

  key(event) {
    if (!this.image || event.target !== this.stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const pan = (dx, dy) => this.to(panned(this.view, dx * PAN_PX, dy * PAN_PX, this.room, this.image));
    const keys = {
      "+": () => this.zoomBy(STEP), "=": () => this.zoomBy(STEP), "-": () => this.zoomBy(1 / STEP), 0: () => this.fit(),
      ArrowLeft: () => pan(1, 0), ArrowRight: () => pan(-1, 0), ArrowUp: () => pan(0, 1), ArrowDown: () => pan(0, -1),
      n: () => this.on.step(1), p: () => this.on.step(-1), Escape: () => this.on.leave(),
    };
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    if (event.key.startsWith("Arrow") && isFitted(this.view, this.room, this.image)) return; // the page scrolls
    event.preventDefault();
    act();
  }
}
