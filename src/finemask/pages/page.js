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

// Pictures shown large: arrows go on, space switches between what they show, Escape closes.
const examples = [...document.querySelectorAll(".example")];
if (examples.length) {
  const large = document.createElement("dialog"), part = name => large.querySelector(`#large-${name}`);
  large.id = "large";
  large.setAttribute("aria-labelledby", "large-name");
  large.innerHTML = `<div class="bar"><span id="large-name"></span><div class="tools"><span id="large-sides"></span>
    <button type="button" id="large-before" aria-label="Picture before">←</button>
    <button type="button" id="large-next" aria-label="Next picture">→</button>
    <button type="button" id="large-close" aria-label="Close">✕</button></div></div><img id="large-image" alt="" tabindex="-1">`;
  document.body.append(large);
  let current = 0, side = 0;
  const views = () => [...examples[current].querySelectorAll(".view")];
  const show = () => {
    const all = views(), picture = all[side].firstElementChild;
    part("image").src = picture.src;
    part("image").alt = picture.alt;
    part("name").textContent = examples[current].dataset.name;
    part("sides").replaceChildren(...(all.length > 1 ? all : []).map((view, which) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = view.dataset.side;
      button.setAttribute("aria-pressed", which === side);
      button.addEventListener("click", () => turn(which));
      return button;
    }));
  };
  const turn = to => { side = to % views().length; show(); };
  const go = by => {
    do current = (current + by + examples.length) % examples.length; while (examples[current].hidden || !views().length);
    turn(side);
  };
  examples.forEach((example, number) => example.querySelectorAll(".view").forEach((view, which) => {
    view.addEventListener("click", () => { current = number; turn(which); large.showModal(); part("image").focus(); });
  }));
  part("image").addEventListener("click", () => turn(side + 1));
  part("before").addEventListener("click", () => go(-1));
  part("next").addEventListener("click", () => go(1));
  part("close").addEventListener("click", () => large.close());
  large.addEventListener("click", event => { if (event.target === large) large.close(); });
  large.addEventListener("close", () => views()[side].focus());
  large.addEventListener("keydown", event => {
    if (event.key === "ArrowLeft") go(-1);
    else if (event.key === "ArrowRight") go(1);
    else if (event.key === " " && event.target.tagName !== "BUTTON") turn(side + 1);
    else return;
    event.preventDefault();
  });
}
