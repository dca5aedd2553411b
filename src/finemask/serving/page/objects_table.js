// The objects of a picture as a table; its headings sort it, as those of every table of a report do.

import { isShown } from "./settings.js";
import { share, sides, twoDigits } from "./wording.js";

/** A row for each instance, made once a picture; those that are not shown are hidden. */
export class ObjectsTable {
  /**
   * @param root the table.
   * @param on.point(instance or null) when one is pointed at or reached by the keyboard; on.choose(instance).
   */
  constructor(root, on) {
    Object.assign(this, { root, on, rows: new Map() });
  }

  show(answer) {
    this.rows = new Map((answer?.instances ?? []).map(instance => [instance, this.row(instance, answer.image)]));
    for (const heading of this.root.tHead.rows[0].cells) heading.removeAttribute("aria-sort");
    this.root.tBodies[0].replaceChildren(...this.rows.values());
  }

  update(settings, colourOf, chosen) {
    for (const [instance, row] of this.rows) {
      row.hidden = !isShown(instance, settings);
      row.classList.toggle("chosen", instance === chosen);
      row.querySelector(".swatch").style.setProperty("--key", colourOf(instance));
    }
  }

  /** Scrolls the table, not the page, so that the row of an instance can be seen. */
  reveal(instance) {
    const row = this.rows.get(instance), around = this.root.parentElement, head = this.root.tHead.offsetHeight;
    if (!row) return;
    if (row.offsetTop - head < around.scrollTop) around.scrollTop = row.offsetTop - head;
    const below = row.offsetTop + row.offsetHeight - around.clientHeight;
    if (below > around.scrollTop) around.scrollTop = below;
  }

  /** The instances in the order of the rows, those that are not shown left out. */
  get order() {
    const instances = new Map([...this.rows].map(([instance, row]) => [row, instance]));
    return [...this.root.tBodies[0].rows].filter(row => !row.hidden).map(row => instances.get(row));
  }

  row(instance, image) {
    const [row, name, button] = ["tr", "th", "button"].map(tag => document.createElement(tag));
    const swatch = Object.assign(document.createElement("i"), { className: "swatch" });
    name.scope = "row";
    name.dataset.value = instance.category;
    button.type = "button";
    button.append(swatch, instance.category);
    button.setAttribute("aria-label", `${instance.category} ${instance.id}, show in the picture`);
    name.append(button);
    const [left, top, right, bottom] = instance.box;
    const cells = [
      [instance.score, twoDigits(instance.score)],
      [instance.area, instance.area.toLocaleString("en")],
      [instance.area, share(instance.area, image)],
      [Math.max(right - left, bottom - top), sides(instance.box)],
    ].map(([value, text]) => {
      const cell = Object.assign(document.createElement("td"), { textContent: text });
      cell.dataset.value = value;
      return cell;
    });
    row.append(name, ...cells);
    row.addEventListener("pointerenter", () => this.on.point(instance));
    row.addEventListener("pointerleave", () => this.on.point(null));
    button.addEventListener("focus", () => this.on.point(instance));
    button.addEventListener("blur", () => this.on.point(null));
    button.addEventListener("click", () => this.on.choose(instance));
    return row;
  }
}
