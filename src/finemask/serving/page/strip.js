// The strip under the stage: the pictures of this visit, each a button that shows it again.

const SAID = { waiting: "waits", asked: "is being looked at", refused: "could not be looked at" };

/** Shows the pictures; `choose(picture)` is called for one that is to be shown. */
export class Strip {
  constructor(root, choose) {
    Object.assign(this, { root, choose, tiles: new Map() });
  }

  update(pictures, current, countOf) {
    this.root.hidden = !pictures.length;
    for (const picture of pictures) {
      if (!this.tiles.has(picture)) this.add(picture);
      const tile = this.tiles.get(picture), found = picture.status === "found" ? countOf(picture) : null;
      tile.button.setAttribute("aria-current", picture === current);
      tile.button.className = picture.status;
      tile.badge.textContent = found ?? { waiting: "…", asked: "…", refused: "!" }[picture.status];
      const said = found === null ? SAID[picture.status] : `${found} shown`;
      tile.button.setAttribute("aria-label", `${picture.name}, ${said}`);
      tile.button.title = picture.name;
      if (picture.thumbnail && !picture.thumbnail.isConnected) tile.button.prepend(picture.thumbnail);
    }
  }

  add(picture) {
    const [item, button, badge] = ["li", "button", "span"].map(tag => document.createElement(tag));
    button.type = "button";
    badge.className = "badge";
    button.append(badge);
    button.addEventListener("click", () => this.choose(picture));
    item.append(button);
    this.root.append(item);
    this.tiles.set(picture, { button, badge });
    this.root.scrollLeft = this.root.scrollWidth;
  }
}
