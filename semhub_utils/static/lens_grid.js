// The lens grid: draws what the widget's traits hold. No network, no kernel. `parts.js` stands in front.

let grids = 0;

function render({ model, el }) {
  let meta, bytes, dominant, types, whose = "";
  const hold = (of, raw) => {
    meta = of;
    bytes = new DataView(raw.buffer ?? raw, raw.byteOffset ?? 0, raw.byteLength);
    dominant = new Set(meta.dominant_words);
    const title = ({ name }) => name[0].toUpperCase() + name.slice(1);
    const colours = new Map(model.get("meta").types?.map(({ name, colour }) => [name, colour])); // one look on the page
    types = (meta.types ?? []).map((type, k) => ({ ...type, colour: colours.get(type.name) ?? type.colour, title: title(type), words: new Set(meta.type_words[k]) }));
  };
  // Whose word it is: the line's own, where its type has it, then the dominant language's.
  const typeOf = (number) => {
    const own = types.find((type) => type.name === now.item.data_type && type.words.has(number));
    return own ?? (dominant.has(number) ? types[0] : types.find((type) => type.words.has(number)));
  };
  hold(model.get("meta"), model.get("cells"));
  // On a page of the book the grid can be that of another model on file, which is loaded when it is chosen.
  const others = (window.semhubOthers ?? []).filter((one) => one.grid);
  const turnTo = async (slug) => {
    if (slug) {
      const { meta: of, cells } = await window.semhubModel(`${slug}-grid`);
      hold(of, Uint8Array.from(atob(cells), (c) => c.charCodeAt(0)));
    } else hold(model.get("meta"), model.get("cells"));
    whose = slug;
    draw();
  };
  const id = `lens-grid-${++grids}`;
  const now = {};

  const read = () => {
    now.item = meta.sentences[model.get("sentence")] ?? meta.sentences[0];
    const names = Object.keys(now.item.readings);
    now.reading = names.includes(model.get("reading")) ? model.get("reading") : names[0];
    now.block = now.item.readings[now.reading];
    now.shade = now.block.entropy_max ? model.get("shade") : "probability";
    const [row, column] = model.get("cell");
    now.row = Math.max(0, Math.min(row, now.item.layers.length - 1));
    now.column = Math.max(0, Math.min(column, now.item.tokens.length - 1));
  };
  // One cell: its words, falling by probability, and its entropy in nats where known.
  const at = (row, column) => {
    const { item, block } = now;
    const size = item.layers.length * item.tokens.length;
    const place = row * item.tokens.length + column;
    const value = (index) => bytes.getUint16(block.start + 2 * index, true);
    const words = Array.from({ length: block.k }, (_, rank) => {
      const number = value(place * block.k + rank);
      const p = value((size + place) * block.k + rank) / 65535;
      return { text: meta.words[number], p, dominant: dominant.has(number), type: typeOf(number) };
    });
    const share = block.entropy_max ? value(2 * size * block.k + place) / 65535 : null;
    return { words, share, entropy: share === null ? null : share * block.entropy_max };
  };
  const save = (changes) => {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  };
  const layerName = (row) => {
    const [layer, last] = [now.item.layers[row], now.item.n_layers];
    const part = layer === last ? "last" : layer === 0 ? "input" : 3 * layer < last ? "early" : 3 * layer > 2 * last ? "late" : "middle";
    return { layer, part, depth: (layer / last).toFixed(2) };
  };
  const where = (row, column) => {
    const { layer, depth } = layerName(row);
    return `layer ${layer} of ${now.item.n_layers} (depth ${depth}), after “${visible(now.item.tokens[column])}”`;
  };

  const root = node("section", { class: "lens-grid", "aria-label": meta.title });
  root.style.setProperty("--lens-dominant", meta.dominant_colour);
  const controls = node("div", { class: "lens-controls" });
  const scroll = node("div", { class: "lens-scroll" });
  const panel = node("div", { class: "lens-panel", role: "region", "aria-live": "polite", "aria-label": "Chosen cell" });
  const tip = node("div", { class: "lens-tip", role: "tooltip", id: `${id}-tip`, hidden: "" });
  const key = node("p", { class: "lens-key" });
  root.append(node("p", { class: "lens-title" }, meta.title), controls, key, node("div", { class: "lens-body" }, scroll, panel), tip);
  el.append(root);

  const drawControls = () => {
    const select = node("select", { id: `${id}-sentence` });
    meta.sentences.forEach((item, index) => select.append(node("option", { value: index }, item.name)));
    select.value = String(meta.sentences.indexOf(now.item));
    select.addEventListener("change", () => save({ sentence: Number(select.value) }));
    const sentence = node("div", {}, node("label", { for: select.id }, "Sentence"), " ", select);
    const choice = (trait, legend, names, chosen) => {
      const set = node("fieldset", {}, node("legend", {}, legend));
      for (const name of names) {
        const input = node("input", { type: "radio", name: `${id}-${trait}`, value: name });
        input.checked = name === chosen;
        input.addEventListener("change", () => save({ [trait]: name }));
        set.append(node("label", {}, input, ` ${name}`));
      }
      return set;
    };
    const names = Object.keys(now.item.readings);
    const sets = [sentence];
    if (others.length) {
      const models = node("select", { id: `${id}-model` }, new Option("of this page", ""), ...others.map((one) => new Option(one.label, one.slug)));
      models.value = whose;
      models.addEventListener("change", () => turnTo(models.value));
      sets.unshift(node("div", {}, node("label", { for: models.id }, "Model"), " ", models));
    }
    if (names.length > 1) sets.push(choice("reading", "Lens", names, now.reading));
    if (now.block.entropy_max) sets.push(choice("shade", "Shade by", ["probability", "entropy"], now.shade));
    const held = root.contains(document.activeElement) && controls.contains(document.activeElement);
    const focus = held && [document.activeElement.id || document.activeElement.name, document.activeElement.value];
    controls.replaceChildren(...sets);
    if (focus) [...controls.querySelectorAll("select, input")].find((input) => input.id === focus[0] || (input.name === focus[0] && input.value === focus[1]))?.focus();
  };

  const showTip = (cell) => {
    const [row, column] = [Number(cell.dataset.row), Number(cell.dataset.column)];
    const lines = at(row, column).words.slice(0, 3).map(({ text, p }) => node("div", {}, `${visible(text)}  ${percent(p)}`));
    tip.replaceChildren(node("strong", {}, where(row, column)), ...lines);
    tip.hidden = false;
    const [box, frame, size] = [cell.getBoundingClientRect(), root.getBoundingClientRect(), tip.getBoundingClientRect()];
    tip.style.left = `${Math.max(0, Math.min(box.left - frame.left, frame.width - size.width))}px`;
    tip.style.top = `${box.bottom - frame.top + 4}px`;
  };
  const hideTip = () => { tip.hidden = true; };

  const tint = (cell, type) => {
    cell.classList.add("tinted");
    cell.style.setProperty("--tint", type.colour);
    seen.add(type);
  };
  const seen = new Set();
  const drawGrid = () => {
    const { item } = now;
    seen.clear();
    const head = node("tr", {}, node("th", { scope: "col", class: "lens-corner" }, "layer"));
    item.tokens.forEach((token) => head.append(node("th", { scope: "col", dir: "auto" }, short(token))));
    const body = node("tbody");
    for (let row = item.layers.length - 1; row >= 0; row--) {
      const { layer, part } = layerName(row);
      const line = node("tr", { class: `lens-${part}` }, node("th", { scope: "row" }, node("small", {}, part), ` ${layer}`));
      item.tokens.forEach((_, column) => {
        const { words, share, entropy } = at(row, column);
        const top = words[0];
        const told = `${short(top.text)}, ${percent(top.p)}${top.dominant ? `, ${meta.dominant}` : ""}`;
        const cell = node("td", {
          role: "gridcell", tabindex: "-1", dir: "auto", "data-row": row, "data-column": column,
          "aria-label": told + (entropy === null ? "" : `, entropy ${entropy.toFixed(2)} nats`),
        }, node("span", {}, short(top.text)));
        cell.style.setProperty("--share", now.shade === "entropy" ? 1 - share : top.p);
        if (top.dominant) cell.classList.add("dominant");
        if (top.type) tint(cell, top.type);
        line.append(cell);
      });
      body.append(line);
    }
    const table = node("table", { role: "grid", "aria-label": `Top lens words, ${item.name}, ${now.reading} lens` }, node("thead", {}, head), body);
    scroll.replaceChildren(table);
    const swatches = types.filter((type) => seen.has(type) && type !== types[0]).flatMap((type) => {
      const swatch = node("span", { class: "lens-swatch tinted" }, type.title);
      swatch.style.setProperty("--tint", type.colour);
      return [" ", swatch];
    });
    key.replaceChildren(
      node("span", { class: "lens-swatch dominant" }, meta.dominant), " is underlined", ...swatches, types.length ? " · grey: of no type" : "", " · stronger tint: ",
      now.shade === "entropy" ? "lower entropy" : "higher probability", " · top row: last layer");
  };

  const drawCell = (focus) => {
    for (const old of scroll.querySelectorAll("td[tabindex='0']")) {
      old.tabIndex = -1;
      old.setAttribute("aria-selected", "false");
    }
    const cell = scroll.querySelector(`td[data-row='${now.row}'][data-column='${now.column}']`);
    cell.tabIndex = 0;
    const [left, room] = [cell.offsetLeft, scroll.clientWidth - cell.offsetWidth];
    if (left > scroll.scrollLeft + room) scroll.scrollLeft = left - room / 2; // on a phone the chosen one can be seen
    cell.setAttribute("aria-selected", "true");
    const { words, entropy } = at(now.row, now.column);
    const list = node("ol");
    for (const { text, p, dominant: own, type } of words) {
      const bar = node("span", { class: "lens-bar", "aria-hidden": "true" });
      bar.style.setProperty("--share", p);
      list.append(node("li", own ? { class: "dominant" } : {},
        node("span", { class: "lens-word", dir: "auto" }, visible(text)), node("span", { class: "lens-p" }, `${type ? `${type.title} ` : ""}${percent(p)}`), bar));
    }
    const told = where(now.row, now.column);
    panel.replaceChildren(node("p", { class: "lens-where" }, told[0].toUpperCase() + told.slice(1)), list);
    if (entropy !== null) panel.append(node("p", {}, `Entropy ${entropy.toFixed(2)} nats`));
    if (focus) cell.focus();
  };

  const draw = () => { read(); drawControls(); hideTip(); drawGrid(); drawCell(false); };
  const moveTo = (row, column) => {
    save({ cell: [row, column] });
    read();
    drawCell(true);
  };
  scroll.addEventListener("click", (event) => {
    const cell = event.target.closest("td");
    if (!cell) return;
    moveTo(Number(cell.dataset.row), Number(cell.dataset.column));
    hideTip();
  });
  scroll.addEventListener("keydown", (event) => {
    const [rows, columns] = [now.item.layers.length - 1, now.item.tokens.length - 1];
    const goal = {
      ArrowUp: [now.row + 1, now.column], ArrowDown: [now.row - 1, now.column],
      ArrowLeft: [now.row, now.column - 1], ArrowRight: [now.row, now.column + 1],
      Home: [now.row, 0], End: [now.row, columns], PageUp: [rows, now.column], PageDown: [0, now.column],
    }[event.key];
    if (event.key === "Escape") hideTip();
    if (!goal) return;
    event.preventDefault();
    event.stopPropagation();
    moveTo(Math.max(0, Math.min(goal[0], rows)), Math.max(0, Math.min(goal[1], columns)));
  });
  scroll.addEventListener("mouseover", (event) => { const cell = event.target.closest("td"); if (cell) showTip(cell); });
  scroll.addEventListener("focusin", (event) => { if (event.target.matches("td:focus-visible")) showTip(event.target); });
  scroll.addEventListener("mouseleave", hideTip);
  scroll.addEventListener("focusout", hideTip);
  const edge = () => scroll.classList.toggle("more", scroll.scrollLeft + scroll.clientWidth < scroll.scrollWidth - 1);
  scroll.addEventListener("scroll", () => { hideTip(); edge(); });
  new ResizeObserver(() => { if (scroll.querySelector("td")) { drawCell(false); edge(); } }).observe(scroll);

  const recell = () => { read(); drawCell(false); };
  const heard = { sentence: draw, reading: draw, shade: draw, cell: recell };
  for (const [trait, react] of Object.entries(heard)) model.on(`change:${trait}`, react);
  draw();
  return () => {
    for (const [trait, react] of Object.entries(heard)) model.off(`change:${trait}`, react);
  };
}

export default { render };
