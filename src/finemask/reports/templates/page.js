// The button of the theme; without scripts it stays hidden.
const themeButton = document.getElementById("theme");
const nameTheme = () => { themeButton.textContent = finemaskTheme.isDark() ? "Light" : "Dark"; };
themeButton.hidden = false;
themeButton.addEventListener("click", () => { finemaskTheme.toggle(); nameTheme(); });
finemaskTheme.asked.addEventListener("change", () => { finemaskTheme.apply(); nameTheme(); });
nameTheme();

// Tables sorted by the heading that is chosen; a second time, the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => {
    const before = heading.getAttribute("aria-sort");
    const direction = before ? (before === "descending" ? "ascending" : "descending") : (column ? "descending" : "ascending");
    headings.forEach(other => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const value = row => row.cells[column].dataset.value;
    const compare = column ? (a, b) => value(a) - value(b) : (a, b) => value(a).localeCompare(value(b));
    body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)));
  }));
}

// Pictures shown large: arrows go on, space switches between labels and predictions, Escape closes.
const large = document.getElementById("large");
if (large) {
  const part = name => document.getElementById(`large-${name}`);
  const examples = [...document.querySelectorAll(".example")];
  let current = 0, side = 0;
  const show = () => {
    const picture = examples[current].querySelectorAll("img")[side];
    part("image").src = picture.src;
    part("image").alt = picture.alt;
    part("name").textContent = examples[current].dataset.name;
    part("truth").setAttribute("aria-pressed", side === 0);
    part("prediction").setAttribute("aria-pressed", side === 1);
  };
  const turn = to => { side = to; show(); };
  const go = by => { current = (current + by + examples.length) % examples.length; show(); };
  examples.forEach((example, number) => example.querySelectorAll(".view").forEach((view, which) => {
    view.addEventListener("click", () => { current = number; turn(which); large.showModal(); part("image").focus(); });
  }));
  part("truth").addEventListener("click", () => turn(0));
  part("prediction").addEventListener("click", () => turn(1));
  part("image").addEventListener("click", () => turn(1 - side));
  part("before").addEventListener("click", () => go(-1));
  part("next").addEventListener("click", () => go(1));
  part("close").addEventListener("click", () => large.close());
  large.addEventListener("click", event => { if (event.target === large) large.close(); });
  large.addEventListener("close", () => examples[current].querySelectorAll(".view")[side].focus());
  large.addEventListener("keydown", event => {
    if (event.key === "ArrowLeft") go(-1);
    else if (event.key === "ArrowRight") go(1);
    else if (event.key === " " && event.target.tagName !== "BUTTON") turn(1 - side);
    else return;
    event.preventDefault();
  });
}
