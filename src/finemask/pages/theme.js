// Before the first paint: the theme of the page is its one style rule for dark screens, which follows the system's
// choice until somebody chooses. The print rules come later in the sheet, so paper stays light.
const finemaskTheme = (() => {
  const system = "screen and (prefers-color-scheme: dark)";
  const dark = [...document.styleSheets[0].cssRules].find(rule => rule.media && rule.media.mediaText.includes("prefers-color-scheme"));
  const asked = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("finemask-theme"); } catch { /* some browsers keep nothing for a file */ }
  const isDark = () => chosen ? chosen === "dark" : asked.matches;
  const apply = () => {
    dark.media.mediaText = chosen ? (chosen === "dark" ? "screen" : "not all") : system;
    document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  };
  const toggle = () => {
    chosen = isDark() ? "light" : "dark";
    try { localStorage.setItem("finemask-theme", chosen); } catch { /* then until the page is closed */ }
    apply();
  };
  apply();
  return { apply, toggle, isDark, asked };
})();
