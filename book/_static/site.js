// Small corrections to the theme.

// From disk a browser refuses to fetch the text around a search hit: list the hits alone.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// Boxes that scroll can be reached by keyboard, and show where they go on: long formulas, wide tables and outputs, code.
const BOXES = ".math, mjx-container, pre, .output, .pst-scrollable-table-container, .data-table-scroll, .clip-strip";
function reachable() { // all is measured before anything is changed, or the page would be laid out anew for each box
  stack([...document.querySelectorAll(".bd-article table")]);
  const boxes = [...document.querySelectorAll(`.bd-article :is(${BOXES})`)].map((box) => {
    const { overflowX, overflowY } = getComputedStyle(box);
    const hides = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    return [box, hides && /auto|scroll/.test(overflowX + overflowY), more(box, overflowX)];
  });
  for (const [box, hides, on] of boxes) {
    if (hides) box.tabIndex = 0;
    box.classList.toggle("more", on);
  }
}
function more(box, overflow = getComputedStyle(box).overflowX) {
  return box.scrollWidth - box.clientWidth - box.scrollLeft > 2 && /auto|scroll/.test(overflow); // 2 px are rounding, or a formula's edge
}
let waiting = 0; // folds may open together
const soon = () => { waiting ||= requestAnimationFrame(() => { waiting = 0; reachable(); }); };
addEventListener("scroll", ({ target }) => target.matches?.(BOXES) && target.classList.toggle("more", more(target)), true);
addEventListener("toggle", soon, true);
addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(reachable));
addEventListener("resize", soon);

// A table that is wider than a phone is a list there: before each cell stands what its column is called.
function stack(all) {
  const own = ".holds, .strip, .lens-grid, .clip-player, .semhub-live";
  const tables = all.filter((table) => !table.closest(own) && table.tHead?.rows.length === 1 && table.checkVisibility());
  for (const table of tables) table.classList.remove("stacked");
  const wide = innerWidth > 576 ? [] : tables.filter((table) => table.scrollWidth > table.parentElement.clientWidth + 2);
  for (const table of wide) {
    table.classList.add("stacked");
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim()), roles = { TR: "row", TH: "rowheader", TD: "cell" };
    for (const cell of table.querySelectorAll("tbody :is(tr, th, td)")) {
      cell.role = roles[cell.tagName]; // which is lost where it is shown as no part of a table
      if (names[cell.cellIndex]) cell.dataset.column = `${names[cell.cellIndex]}: `;
      cell.toggleAttribute("data-empty", !cell.textContent.trim());
    }
    table.role = "table";
  }
}

// One switch for the code that a chapter folds, instead of a bar for each cell. What it was set to holds for all pages.
addEventListener("DOMContentLoaded", () => {
  const folds = [...document.querySelectorAll(".cell:not(.tag_solution) > details.hide.above-input")];
  const title = document.querySelector(".bd-article h1");
  if (!folds.length || !title) return;
  const button = Object.assign(document.createElement("button"), { type: "button", className: "code-switch" });
  const show = (on) => {
    document.documentElement.dataset.code = on ? "shown" : "hidden";
    button.textContent = on ? "Hide code" : "Show code";
    for (const fold of folds) fold.open = on;
  };
  const shown = () => document.documentElement.dataset.code === "shown";
  button.addEventListener("click", () => {
    const at = button.getBoundingClientRect().top;
    show(!shown());
    scrollBy(0, button.getBoundingClientRect().top - at);
    try { localStorage.setItem("code", shown()); } catch {} // a browser may forbid it
  });
  let kept = "";
  try { kept = localStorage.getItem("code"); } catch {}
  show(kept === "true");
  title.after(button);
});
