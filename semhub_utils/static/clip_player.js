// A sound with its spectrogram and the lens's words over time. No network, no kernel. `parts.js` stands in front.

const address = (kind, data) => `data:${kind};base64,${data}`;
let players = 0;

function render({ model, el }) {
  const meta = model.get("meta");
  const raw = model.get("cells");
  const bytes = new DataView(raw.buffer ?? raw, raw.byteOffset ?? 0, raw.byteLength);
  const id = `clip-player-${++players}`;
  const clip = () => meta.sentences[model.get("sentence")] ?? meta.sentences[0];
  const names = () => Object.keys(clip().readings);
  const reading = () => (names().includes(model.get("reading")) ? model.get("reading") : names()[0]);
  const within = (value, size) => Math.max(0, Math.min(value, size - 1));
  const place = () => {
    const [layer, frame] = model.get("cell");
    return [within(layer, clip().layers.length), within(frame, clip().tokens.length)];
  };
  const save = (changes) => {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  };
  // The words of one layer at one moment, falling by probability.
  const at = (layer, frame) => {
    const { start, k } = clip().readings[reading()];
    const frames = clip().tokens.length;
    const value = (index) => bytes.getUint16(start + 2 * index, true);
    const first = (layer * frames + frame) * k;
    const size = clip().layers.length * frames * k;
    return Array.from({ length: k }, (_, rank) => ({ text: meta.words[value(first + rank)], p: value(size + first + rank) / 65535 }));
  };

  const root = node("section", { class: "lens-grid clip-player", "aria-label": meta.title });
  const select = node("select", { id: `${id}-clip` });
  meta.sentences.forEach((item, index) => select.append(node("option", { value: index }, item.name)));
  const slider = (name, label) => {
    const input = node("input", { type: "range", id: `${id}-${name}`, min: 0, step: 1 });
    return [input, node("div", { class: "clip-slider" }, node("label", { for: input.id }, label), input)];
  };
  const [layers, layerBox] = slider("layer", "Layer");
  const [times, timeBox] = slider("time", "Time");
  const lenses = node("fieldset", {}, node("legend", {}, "Lens"));
  const audio = node("audio", { controls: "", preload: "auto" });
  const picture = node("img", { class: "dark-light" }); // which tells the theme to leave it as it is in the dark
  const told = node("p", { class: "clip-told", "aria-live": "polite" });
  const note = node("p", {});
  const cursor = node("div", { class: "clip-cursor", "aria-hidden": "true" });
  const words = node("table", {});
  const line = node("div", { class: "clip-line" }, node("div", { class: "clip-picture" }, picture, cursor), words);
  const strip = node("div", { class: "clip-strip", tabindex: "0", role: "region", "aria-label": "The spectrogram, and below each moment its likeliest word" }, line);
  const panel = node("div", { class: "lens-panel", role: "region", "aria-live": "polite", "aria-label": "Chosen moment" });
  root.append(
    node("p", { class: "lens-title" }, meta.title),
    node("div", { class: "lens-controls" }, node("div", {}, node("label", { for: select.id }, "Clip"), " ", select), lenses, layerBox),
    audio, told, note, strip, timeBox, panel);
  el.append(root);
  select.addEventListener("change", () => save({ sentence: Number(select.value), cell: [place()[0], 0] }));
  layers.addEventListener("input", () => save({ cell: [Number(layers.value), place()[1]] }));
  times.addEventListener("input", () => {
    audio.currentTime = Number(times.value) * clip().step;
    save({ cell: [place()[0], Number(times.value)] });
  });
  strip.addEventListener("click", (event) => {
    const cell = event.target.closest("td");
    if (!cell) return;
    audio.currentTime = Number(cell.dataset.frame) * clip().step;
    save({ cell: [place()[0], Number(cell.dataset.frame)] });
  });
  const follow = () => {
    const frame = within(Math.floor(audio.currentTime / clip().step), clip().tokens.length);
    if (frame !== place()[1]) save({ cell: [place()[0], frame] });
    if (!audio.paused && root.isConnected) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", follow);

  const drawLenses = () => {
    const held = lenses.contains(document.activeElement) && document.activeElement.value;
    lenses.replaceChildren(lenses.firstChild);
    lenses.hidden = names().length < 2;
    for (const name of names()) {
      const input = node("input", { type: "radio", name: `${id}-lens`, value: name });
      input.checked = name === reading();
      input.addEventListener("change", () => save({ reading: name }));
      lenses.append(node("label", {}, input, ` ${name}`));
      if (name === held) input.focus();
    }
  };
  // A new clip: its sound, its picture, and how far the sliders go.
  const drawClip = () => {
    select.value = String(meta.sentences.indexOf(clip()));
    audio.setAttribute("aria-label", `Sound: ${clip().name}`);
    audio.src = address("audio/wav", clip().audio);
    picture.src = address("image/png", clip().picture);
    picture.alt = `Spectrogram of the sound ${clip().name}: time to the right, frequency upward, bright is loud.`;
    const { duration, whole, said } = clip();
    told.hidden = !said;
    told.replaceChildren("Its label: ", node("b", {}, clip().name), ". Asked what it hears, the model says: ", node("b", { dir: "auto" }, said ?? ""), ".");
    note.hidden = whole <= duration;
    note.textContent = `The first ${duration.toFixed(1)} of ${whole.toFixed(1)} seconds: sound, picture and words.`;
    layers.max = clip().layers.length - 1;
    times.max = clip().tokens.length - 1;
    drawLenses();
    drawStrip();
  };
  const drawStrip = () => {
    const [layer] = place();
    const { tokens, step, duration } = clip();
    const head = node("tr"), body = node("tr");
    line.style.setProperty("--frames", tokens.length);
    words.style.width = `${(100 * tokens.length * step) / duration}%`; // each word below its own stretch of time
    clip().tokens.forEach((time, frame) => {
      const [top] = at(layer, frame);
      head.append(node("th", { scope: "col" }, time));
      const cell = node("td", { "data-frame": frame, dir: "auto", title: percent(top.p) }, node("span", {}, short(top.text)));
      cell.style.setProperty("--share", top.p);
      body.append(cell);
    });
    words.replaceChildren(node("thead", {}, head), node("tbody", {}, body));
    drawMoment();
  };
  const drawMoment = () => {
    const [layer, frame] = place();
    const { n_layers: n, layers: all, step, duration, tokens } = clip();
    layers.value = layer;
    times.value = frame;
    const depth = (all[layer] / n).toFixed(2);
    layers.setAttribute("aria-valuetext", `layer ${all[layer]} of ${n}`);
    times.setAttribute("aria-valuetext", tokens[frame]);
    cursor.style.left = `${Math.min(100, (100 * (frame + 0.5) * step) / duration)}%`;
    const list = node("ol");
    for (const { text, p } of at(layer, frame)) {
      const bar = node("span", { class: "lens-bar", "aria-hidden": "true" });
      bar.style.setProperty("--share", p);
      list.append(node("li", {}, node("span", { class: "lens-word", dir: "auto" }, visible(text)), node("span", { class: "lens-p" }, percent(p)), bar));
    }
    panel.replaceChildren(node("p", { class: "lens-where" }, `Layer ${all[layer]} of ${n} (depth ${depth}), at ${tokens[frame]}`), list);
    for (const old of strip.querySelectorAll("td[aria-current]")) old.removeAttribute("aria-current");
    const cell = strip.querySelector(`td[data-frame='${frame}']`);
    cell.setAttribute("aria-current", "true");
    strip.scrollLeft = cell.offsetLeft - strip.clientWidth / 2;
  };
  let drawn = place()[0];
  const moved = () => {
    const changed = place()[0] !== drawn;
    drawn = place()[0];
    (changed ? drawStrip : drawMoment)();
  };
  const read = () => { drawLenses(); drawStrip(); };
  const heard = { sentence: drawClip, reading: read, cell: moved };
  for (const [trait, react] of Object.entries(heard)) model.on(`change:${trait}`, react);
  drawClip();
  return () => {
    audio.pause();
    for (const [trait, react] of Object.entries(heard)) model.off(`change:${trait}`, react);
  };
}

export default { render };
