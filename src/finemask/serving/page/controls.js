// The controls beside the picture: threshold, classes, how it is drawn.

import {
  askedScore, commonThreshold, countsByClass, isOwn, resetThresholds, scoreHistogram, setThreshold,
} from "./settings.js";
import { twoDigits } from "./wording.js";

const BINS = 50;
const FEW_CLASSES = 12; // as many are listed though nothing of them was found
const SVG = "http://www.w3.org/2000/svg";

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

/** The panel of controls; it changes the settings it was given, and says so to `changed`. */
export class Controls {
  /**
   * @param root with the controls of demo.html.j2.
   * @param info of the server.
   * @param settings of settings.js.
   * @param changed called after each change.
   */
  constructor(root, info, settings, changed) {
    Object.assign(this, { root, info, settings, changed, rows: new Map() });
    const part = id => root.querySelector(`#${id}`);
    Object.assign(this, { slider: part("threshold"), said: part("threshold-said"), words: part("threshold-words") });
    Object.assign(this, { own: part("own-thresholds"), classes: part("classes"), others: part("other-classes") });
    this.own.textContent = `the ${settings.whose}'s own`;
    this.slider.min = String(Math.floor(askedScore(settings) * 100) / 100);
    this.slider.addEventListener("input", () => { setThreshold(settings, Number(this.slider.value)); this.update(); });
    this.own.addEventListener("click", () => { resetThresholds(settings); this.update(); this.slider.focus(); });
    for (const name of ["masks", "boxes", "labels"]) {
      part(name).checked = settings[name];
      part(name).addEventListener("change", event => { settings[name] = event.target.checked; changed(); });
    }
    for (const radio of root.querySelectorAll("[name=colour-by]")) {
      radio.checked = radio.value === settings.colourBy;
      radio.addEventListener("change", () => { settings.colourBy = radio.value; changed(); });
    }
    part("all-classes").addEventListener("click", () => { settings.off.clear(); this.update(); });
    part("no-class").addEventListener("click", () => {
      info.categories.forEach(({ name }) => settings.off.add(name));
      this.update();
    });
    this.bars = Array.from({ length: BINS }, (_, k) => {
      const bar = document.createElementNS(SVG, "rect");
      bar.setAttribute("x", k + 0.1);
      bar.setAttribute("width", 0.8);
      return bar;
    });
    part("histogram").append(...this.bars);
    info.categories.forEach(category => this.rows.set(category.name, this.classRow(category)));
    this.show([]);
  }

  /** The instances of the picture that is looked at. */
  show(instances) {
    this.instances = instances;
    const found = countsByClass(instances, this.settings), few = this.info.categories.length <= FEW_CLASSES;
    const order = [...this.rows.keys()].sort((a, b) => (found.get(b)?.all ?? 0) - (found.get(a)?.all ?? 0));
    const near = few ? [...this.rows.keys()] : order.filter(name => found.has(name) || this.settings.off.has(name));
    const far = order.filter(name => !near.includes(name));
    this.classes.replaceChildren(...near.map(name => this.rows.get(name).row));
    this.others.querySelector("ul").replaceChildren(...far.map(name => this.rows.get(name).row));
    this.others.querySelector("summary").textContent = near.length
      ? `${far.length} classes of which nothing was found` : `All ${far.length} classes`;
    this.others.hidden = !far.length;
    scoreHistogram(instances, BINS).forEach((height, k) => {
      this.bars[k].setAttribute("y", 20 - 20 * height);
      this.bars[k].setAttribute("height", 20 * height);
    });
    this.refresh();
  }

  update() {
    this.refresh();
    this.changed();
  }

  /** What the thresholds are, for people: "at 0.62", "at the model's own thresholds". */
  get thresholdWords() {
    const common = commonThreshold(this.settings);
    const own = `at the ${this.settings.whose}'s own threshold`;
    if (isOwn(this.settings)) return common === null ? `${own}s` : `${own}, ${twoDigits(common)}`;
    return common === null ? "at thresholds of each class" : `at threshold ${twoDigits(common)}`;
  }

  refresh() {
    const { settings } = this, common = commonThreshold(settings), values = Object.values(settings.thresholds);
    const low = Math.min(...values), high = Math.max(...values);
    this.slider.value = String(common ?? settings.global);
    const range = common === null ? `${twoDigits(low)} – ${twoDigits(high)}` : twoDigits(common);
    this.said.textContent = range;
    const spoken = common === null ? `${twoDigits(low)} to ${twoDigits(high)}, by class` : range;
    this.slider.setAttribute("aria-valuetext", spoken);
    this.own.hidden = isOwn(settings);
    this.words.textContent = isOwn(settings) ? `the ${settings.whose}'s own${common === null ? ", of each class" : ""}`
      : common === null ? "of each class" : values.length > 1 ? "for all classes" : "";
    this.bars.forEach((bar, k) => bar.classList.toggle("below", (k + 0.5) / BINS < (common ?? low)));
    const counts = countsByClass(this.instances, settings);
    for (const [name, row] of this.rows) {
      const { all = 0, above = 0 } = counts.get(name) ?? {};
      row.box.checked = !settings.off.has(name);
      row.row.classList.toggle("none", !all);
      row.count.textContent = all ? (above === all ? String(all) : `${above} of ${all}`) : "–";
      row.slider.value = String(settings.thresholds[name]);
      row.said.textContent = twoDigits(settings.thresholds[name]);
    }
  }

  classRow({ name, colour }) {
    const { settings } = this;
    const box = element("input", { type: "checkbox" });
    box.addEventListener("change", () => { settings.off[box.checked ? "delete" : "add"](name); this.update(); });
    const swatch = element("i", { className: "swatch" });
    swatch.style.setProperty("--key", colour);
    const count = element("span", { className: "count" }), said = element("output");
    const called = element("span", { className: "class-name", textContent: name });
    const label = element("label", {}, box, swatch, called, count);
    const slider = element("input", { type: "range", min: this.slider.min, max: "1", step: "0.01" });
    slider.setAttribute("aria-label", `Threshold of ${name}`);
    slider.addEventListener("input", () => { setThreshold(settings, Number(slider.value), name); this.update(); });
    const row = element("li", {}, label);
    if (this.info.categories.length > 1) row.append(element("div", { className: "class-threshold" }, slider, said));
    return { row, box, count, slider, said };
  }
}
