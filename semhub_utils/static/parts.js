// What the widgets share.

const node = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
// Spaces and line ends are shown where they matter: in the panel and the tooltip.
const visible = (word) => word.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
const short = (word) => word.trim() || visible(word);
const percent = (p) => (p > 0 && p < 0.001 ? "< 0.1%" : `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)}%`);
