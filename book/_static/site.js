// Small corrections to the theme.

// From disk a browser refuses to fetch the text around a search hit: list the hits alone.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// Boxes that scroll can be reached by keyboard: long formulas, wide tables and outputs, code.
function reachable() {
  for (const box of document.querySelectorAll(".bd-article :is(.math, mjx-container, pre, .output, .pst-scrollable-table-container)")) {
    const { overflowX, overflowY } = getComputedStyle(box);
    const hides = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (hides && /auto|scroll/.test(overflowX + overflowY)) box.tabIndex = 0;
  }
}
addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(reachable));
addEventListener("resize", reachable);
