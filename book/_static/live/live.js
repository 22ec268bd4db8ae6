// Your own sentence, live: a model of this book runs in the reader's page, and every layer is read.
//
// A page holds <div class="semhub-live">, with data-show="hero" for the short form. `start.js` brings words, questions
// and one line read beforehand, so that there is something to see before any weights are there; the scripts with weights
// and the tokenizer come when a reader first uses the page. What is chosen stands in the address (of the short form: in
// its link to the long one).

const semhubLive = (() => {
  const base = new URL(".", document.currentScript.src).href;
  const { NAMES, MODELS, UNTRAINED, percent, cap } = semhubWords;
  const MOST = 40; // words of a line that are read
  const SIZE = "1.4 MB"; // of one model on its way, compressed
  const WAYS = { none: "leave it as it is", add: "add a difference of two English lines", put: "put in the state of an English line" };

  // --- what is loaded -------------------------------------------------------------------------------------------------

  const given = {}, asked = {};
  const slot = (name) => (asked[name] ??= Object.assign({}, { promise: null, settle: null }));

  // Called by the scripts that bring something.
  function take(name, value) {
    given[name] = value;
    slot(name).settle?.(value);
    if (name === "start") for (const box of document.querySelectorAll(".semhub-live")) show(box, semhubWords.make(value), value);
  }

  function bring(name) {
    if (given[name]) return Promise.resolve(given[name]);
    const one = slot(name);
    one.promise ??= new Promise((resolve, reject) => {
      one.settle = resolve;
      const script = document.createElement("script");
      script.src = `${base}${name}.js`;
      script.onerror = () => { one.promise = null; script.remove(); reject(new Error(`${name}.js did not load.`)); };
      document.head.append(script);
    });
    return one.promise;
  }

  // --- the model: in a worker where there can be one, so that typing stays smooth ---------------------------------------

  let call = null;
  function engine() {
    if (call) return call;
    const text = `const it = (${semhubForward})();
      onmessage = ({ data: [number, what, ...rest] }) => {
        try { postMessage([number, it[what](...rest) ?? null]); } catch (error) { postMessage([number, null, String(error)]); }
      };`;
    try {
      const worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" }))), waiting = new Map();
      worker.onmessage = ({ data: [number, value, error] }) => {
        const [resolve, reject] = waiting.get(number);
        waiting.delete(number);
        if (error) reject(new Error(error)); else resolve(value);
      };
      let number = 0;
      call = (...message) => new Promise((resolve, reject) => {
        waiting.set(++number, [resolve, reject]);
        worker.postMessage([number, ...message]);
      });
    } catch {
      const here = semhubForward();
      call = async (what, ...rest) => here[what](...rest);
    }
    return call;
  }

  async function ready(model) {
    const [weights] = await Promise.all([bring(model), bring("tokenizer")]);
    if (!weights.sent) weights.sent = engine()("load", model, weights);
    await weights.sent;
    weights.base64 = ""; // the worker has it
  }

  // The words of a text as the tokenizer cuts them, and their ids behind the start mark.
  function cut(text) {
    const tokenizer = given.tokenizer;
    const pieces = text.trim() ? tokenizer.pre_tokenizer(tokenizer.normalizer(text)) : [];
    return { pieces: pieces.slice(0, MOST), ids: [...tokenizer.encode(text).ids].slice(0, MOST + 1), more: pieces.length > MOST };
  }

  // What a model reads in a text, under an edit if there is one; `whole` adds states and logits (for the tests).
  async function read(model, text, { edit = null, k = 8, whole = false } = {}) {
    await ready(model);
    const { ids, pieces, more } = cut(text), end = (line) => cut(line).ids;
    const change = edit && { ...edit, position: ids.length - 1, toward: end(edit.toward), from: edit.from && end(edit.from) };
    const found = await engine()("read", { name: model, ids, edit: change, k, whole });
    return { ...found, tokens: ids, pieces, more };
  }

  // --- the page ---------------------------------------------------------------------------------------------------------

  let boxes = 0;
  const node = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== false) made.setAttribute(name, value === true ? "" : value);
    made.append(...children);
    return made;
  };
  // Sentences as semhubWords makes them.
  const spoken = (sentences) => sentences.map((parts) => node("p", {}, ...parts.map(([text, how]) => {
    if (!how) return text;
    if (how === "strong" || how === "model") return node(how === "model" ? "em" : "strong", {}, text);
    return node("b", { class: "live-word", "data-kind": how, dir: "auto" }, text);
  })));

  function show(box, know, start) {
    const id = (name) => `live-${number}-${name}`, number = ++boxes, hero = box.dataset.show === "hero";
    const questions = start.questions, L = start.read.hub.ids.length - 1;
    const kept = new Map(); // readings, by what was asked
    const first = questions[0].lines[start.type];
    const initial = { text: first, model: "hub", at: -1, layer: Math.round(L / 2) + 1, do: "", toward: questions[0].toward, from: questions[0].from, where: start.layer, times: 1 };
    const now = { ...initial };
    const asking = () => questions.findIndex((one) => Object.values(one.lines).includes(now.text));
    const usual = () => (asking() < 0 ? "none" : "add"); // a line of the reader's own is read as it is, until they say more
    now.do = usual();

    // --- the state and the address ---
    const KEYS = { text: "text", model: "model", at: "at", layer: "layer", do: "do", toward: "toward", from: "from", where: "in", times: "times" };
    function address() {
      const said = new URLSearchParams();
      for (const [key, name] of Object.entries(KEYS)) if (now[key] !== (key === "do" ? usual() : initial[key])) said.set(name, now[key]);
      return [...said].length ? `#${said}` : "";
    }
    function arrive() {
      const said = new URLSearchParams(location.hash.slice(1)), bounded = (value, low, high, other) => (Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : other);
      Object.assign(now, initial);
      for (const [key, name] of Object.entries(KEYS)) if (said.has(name)) now[key] = typeof initial[key] === "number" ? Number(said.get(name)) : said.get(name);
      if (!Object.hasOwn(MODELS, now.model)) now.model = initial.model;
      if (!Object.hasOwn(WAYS, now.do)) now.do = usual();
      now.at = Math.trunc(bounded(now.at, -1, MOST, -1));
      now.layer = Math.round(bounded(now.layer, 0, L, initial.layer));
      now.where = Math.round(bounded(now.where, 0, L, initial.where));
      now.times = bounded(now.times, -2, 3, 1);
    }
    function leave() {
      const hash = address();
      if (hero) box.querySelector(".live-more")?.setAttribute("href", `${box.dataset.page}#see=change${hash.replace("#", "&")}`);
      else if (hash !== location.hash) history.replaceState(null, "", hash || location.pathname + location.search);
    }

    // --- readings ---
    const editOf = () => now.do !== "none" && now.toward.trim() && (now.do === "put" || now.from.trim()) && ({ layer: now.where, strength: now.times, toward: now.toward, from: now.do === "add" ? now.from : null }) || null;
    const keyOf = (model, edit) => JSON.stringify([model, now.text, edit]);
    const startEdit = JSON.stringify({ layer: start.layer, strength: 1, toward: questions[0].toward, from: questions[0].from });
    function known(model, edit = null) {
      const found = kept.get(keyOf(model, edit));
      if (found || now.text !== first) return found;
      const before = start.read[model];
      const own = { tokens: before.tokens, pieces: before.tokens.slice(1).map((token) => know.words[token]) };
      if (!edit) return { ...before, ...own };
      return JSON.stringify(edit) === startEdit ? { ...before.changed, ...own } : undefined;
    }
    let turn = 0;
    // Reads what is missing of what the page shows; what a later choice has overtaken is dropped.
    async function work(others = []) {
      const mine = ++turn, wanted = [[now.model, null], ...others.map((model) => [model, null])];
      if (!hero && editOf()) wanted.push([now.model, editOf()]);
      const missing = wanted.filter(([model, edit]) => !known(model, edit));
      if (missing.length) {
        const unloaded = [...new Set(missing.map(([model]) => model))].filter((model) => !given[model]);
        if (unloaded.length) say(`Loading ${unloaded.join(", ")} (${SIZE} each) …`);
        try {
          for (const [model, edit] of missing) {
            const key = keyOf(model, edit), text = now.text;
            await ready(model);
            const began = performance.now();
            const found = await read(model, text, { edit });
            if (mine !== turn) return;
            kept.set(key, found);
            box.dataset.milliseconds = Math.round(performance.now() - began);
            if (model === now.model && !edit) say(`${found.pieces.length} words read by ${model} in this page, in ${box.dataset.milliseconds} ms.`);
          }
        } catch (error) {
          say(`It could not be read: ${error.message}`);
          return;
        }
      }
      if (mine === turn) draw();
    }

    // --- the parts ---
    const input = node("input", { id: id("text"), type: "text", maxlength: 300, spellcheck: "false", autocomplete: "off", autocapitalize: "off", dir: "auto" });
    const form = node("form", { class: "live-line" }, node("label", { for: input.id }, "Type a line and stop before its last word"), node("div", {}, input, node("button", { type: "submit" }, "Read it")));
    const question = node("select", { id: id("question") });
    questions.forEach((one, k) => question.append(node("option", { value: k }, `${one.lines.en} …`)));
    question.append(node("option", { value: -1 }, "your own line"));
    const types = node("fieldset", { class: "live-types" });
    const models = node("fieldset", { class: "live-models" }, node("legend", {}, "Read by"));
    for (const model of Object.keys(MODELS)) {
      models.append(node("label", {}, node("input", { type: "radio", name: id("model"), value: model }), node("span", {}, model)));
    }
    const about = node("p", { class: "live-about" });
    const finding = node("div", { class: "live-finding", "aria-live": "polite" });
    const unknown = node("div", { class: "live-unknown", role: "status" });
    const status = node("p", { class: "live-status", role: "status" });
    const key = node("p", { class: "live-key" });
    const grid = node("div", { class: "live-scroll" });
    const panel = node("div", { class: "live-panel", role: "region", "aria-label": "The chosen cell", "aria-live": "polite" });
    const compare = node("div", { class: "live-scroll live-fixed" });
    const told = node("div", { class: "live-told" });
    const others = node("button", { type: "button", class: "live-others" });
    const say = (text) => { status.textContent = text; };

    function ownType() {
      for (const one of questions) for (const [type, line] of Object.entries(one.lines)) if (line === now.text) return type;
      return know.typeOf(known(now.model).tokens.slice(1));
    }

    // A table of layers, the last on top. Columns: {head, mark, of: layer => cell or null}. `pick` makes its cells choosable.
    function towers(title, columns, own, pick) {
      const head = node("tr", {}, node("td", { class: "live-corner" }, "layer"));
      for (const { head: text, mark } of columns) head.append(node("th", { scope: "col", dir: "auto", class: mark }, text));
      const body = node("tbody");
      for (let layer = L; layer >= 0; layer--) {
        const part = layer === L ? "last" : layer === 0 ? "word" : layer < L / 3 ? "early" : layer > (2 * L) / 3 ? "late" : "middle";
        const row = node("tr", {}, node("th", { scope: "row" }, node("span", { class: "live-part" }, part), ` ${layer}`));
        columns.forEach(({ of, mark }, column) => {
          const cell = of(layer);
          if (!cell) { row.append(node("td", { class: "live-empty" }, "·")); return; }
          const top = cell[0], language = NAMES[top.kind] ?? "sign";
          const made = node("td", { class: mark, "data-kind": top.kind, "data-own": String(top.kind === own), "data-layer": layer, "data-column": column, dir: "auto" }, node("span", {}, top.text));
          made.style.setProperty("--share", top.p);
          made.title = `${top.text}: ${language}, ${percent(top.p)}`;
          if (pick) {
            made.setAttribute("role", "gridcell");
            made.setAttribute("aria-label", `${top.text}, ${language}, ${percent(top.p)}`);
            made.tabIndex = -1;
          } else made.append(node("small", {}, percent(top.p)));
          row.append(made);
        });
        body.append(row);
      }
      return node("table", pick ? { role: "grid", "aria-label": title } : {}, node("caption", { class: "visually-hidden" }, title), node("thead", {}, head), body);
    }

    function list(cell) {
      const made = node("ol");
      for (const one of cell.slice(0, 6)) {
        const bar = node("span", { class: "live-bar", "aria-hidden": "true" });
        bar.style.setProperty("--share", one.p);
        made.append(node("li", { "data-kind": one.kind }, node("b", { class: "live-word", "data-kind": one.kind, dir: "auto" }, one.text),
          node("span", { class: "live-language" }, NAMES[one.kind] ?? "sign"), node("span", { class: "live-p" }, percent(one.p)), bar));
      }
      return made;
    }

    // --- drawing ---
    function drawControls() {
      if (document.activeElement !== input) input.value = now.text;
      const asked = asking(), own = asked >= 0 ? ownType() : "";
      question.value = String(asked);
      question.lastChild.hidden = asked >= 0;
      types.hidden = asked < 0; // there is no translation of a reader's own line
      const offered = Object.keys(questions[Math.max(0, asked)].lines);
      const focused = types.contains(document.activeElement) && document.activeElement.value;
      types.replaceChildren(node("legend", {}, "Ask it in"));
      for (const type of ["es", "zh", "de", "code", "digits", "en"].filter((one) => offered.includes(one))) {
        const radio = node("input", { type: "radio", name: id("type"), value: type });
        radio.checked = type === own;
        types.append(node("label", { "data-kind": type }, radio, node("span", {}, cap(NAMES[type]))));
        if (focused === type) radio.focus();
      }
      for (const radio of models.querySelectorAll("input")) radio.checked = radio.value === now.model;
      about.replaceChildren(node("em", {}, now.model), `: ${MODELS[now.model]}.`);
    }

    // Which words of a line, the one called `name`, the model does not know, and what stands near them.
    function warn(place, pieces, name) {
      const strange = [...new Set(pieces.filter((piece) => !know.id.has(piece)))];
      place.replaceChildren();
      for (const word of strange.slice(0, 4)) {
        const said = node("p", {}, node("mark", { dir: "auto" }, word), " is no word that it knows");
        const near = know.near(word);
        if (near.length) said.append(". Near it: ");
        for (const other of near) {
          const button = node("button", { type: "button", dir: "auto" }, other);
          button.addEventListener("click", () => choose({ [name]: now[name].replace(word, () => other), ...(name === "text" && { at: -1 }) }));
          said.append(button, " ");
        }
        if (!near.length) said.append(".");
        place.append(said);
      }
      if (strange.length && !hero) place.append(node("p", {}, "All that it knows stands under “The words it knows” below."));
    }

    function draw() {
      drawControls();
      leave();
      const reading = known(now.model);
      if (!reading) return;
      const last = reading.tokens.length - 1;
      warn(unknown, reading.pieces, "text");
      if (reading.more) unknown.append(node("p", {}, `Only the first ${MOST} words are read.`));
      box.classList.toggle("live-nothing", !last);
      if (!last) {
        const types = "Type a line, or take one of those above: some words of English, Spanish, Chinese, German or code, such as";
        for (const part of [grid, panel, key, compare, told]) part.replaceChildren();
        finding.replaceChildren(node("p", {}, `${types} “${first}”.`));
        say("There is nothing to read yet. Type a line.");
        return;
      }
      const own = ownType(), at = now.at < 1 || now.at > last ? last : now.at;
      const held = questions[asking()]?.held && own !== "en" && !["islands", UNTRAINED].includes(now.model);
      const readable = reading.pieces.some((piece) => know.id.has(piece));
      finding.replaceChildren(...spoken(semhubWords.finding(know, reading, at, own, now.model)));
      if (!readable) finding.replaceChildren(node("p", {}, "It knows none of these words, so it reads nothing of your line."));
      else if (unknown.querySelector("mark")) finding.prepend(node("p", {}, "It does not know all of these words, so what follows is of another line than yours."));
      if (held) finding.append(node("p", {}, "No line that it learned from says so in this type: that fact was taught in English alone."));

      const columns = reading.pieces.map((piece, k) => ({
        head: piece, mark: `${k + 1 === last ? "live-end" : ""}${know.id.has(piece) ? "" : " live-strange"}`,
        of: (layer) => know.cell(reading, layer, k + 1, own) }));
      const held_ = grid.contains(document.activeElement);
      grid.replaceChildren(towers(`What each layer of ${now.model} holds after each word`, columns, own, true));
      drawCell(reading, at, own, held_);

      const places = Object.keys(MODELS).map((model) => ({ model, found: known(model) }));
      compare.replaceChildren(towers(`The five models after “${reading.pieces.slice(0, at).join(" ")}”`, places.map(({ model, found }) => ({
        head: model, mark: model === now.model ? "live-chosen" : "", of: (layer) => found && know.cell(found, layer, at, own) })), own));
      const kinds = new Set([grid, compare].flatMap((part) => [...part.querySelectorAll("td[data-kind]")]).map((cell) => cell.dataset.kind));
      key.replaceChildren(...["en", own, ...Object.keys(NAMES)].filter((kind, k, all) => all.indexOf(kind) === k && kinds.has(kind))
        .map((kind) => node("span", { "data-kind": kind }, NAMES[kind])),
        node("span", { class: "live-note" }, `stronger: likelier${kinds.has("none") ? "; grey: of no type" : ""}`));
      told.replaceChildren(...spoken([semhubWords.compared(know, places.filter(({ found }) => found), at, own)]));
      const left = places.filter(({ found }) => !found).map(({ model }) => model);
      others.hidden = !left.length;
      others.textContent = `Read it with ${left.join(", ")} too (${SIZE} each, once)`;
      others.onclick = () => { others.textContent = "Reading …"; work(left); };
      drawEdit(reading, own);
    }

    function drawCell(reading, at, own, focus) {
      for (const old of grid.querySelectorAll("[aria-selected]")) { old.removeAttribute("aria-selected"); old.tabIndex = -1; }
      const cell = grid.querySelector(`td[data-layer='${now.layer}'][data-column='${at - 1}']`);
      cell.tabIndex = 0;
      cell.setAttribute("aria-selected", "true");
      if (focus) cell.focus({ preventScroll: true });
      panel.replaceChildren(node("p", { class: "live-where" }, `Layer ${now.layer} of ${L}, after “`, node("span", { dir: "auto" }, reading.pieces[at - 1]), "”: what comes next?"),
        list(know.cell(reading, now.layer, at, own)));
    }

    // --- interventions ---
    const change = hero ? null : editor();
    function editor() {
      const way = (value, text) => node("label", {}, node("input", { type: "radio", name: id("do"), value }), node("span", {}, text));
      const line = (name, text) => {
        const field = node("input", { id: id(name), type: "text", maxlength: 300, spellcheck: "false", autocomplete: "off", dir: "auto" });
        typed(field, () => choose({ [name]: field.value }));
        const strange = node("div", { class: "live-unknown", role: "status" });
        return [field, node("div", { class: "live-given" }, node("p", { class: "live-field" }, node("label", { for: field.id }, text), field), strange), strange];
      };
      const slider = (name, text, min, max, step) => {
        const field = node("input", { id: id(name), type: "range", min, max, step }), out = node("output", { for: field.id });
        field.addEventListener("input", () => choose({ [name]: Number(field.value) }));
        return [field, node("p", { class: "live-field" }, node("label", { for: field.id }, text), field, out), out];
      };
      const ways = node("fieldset", { class: "live-ways" }, node("legend", {}, "At the end of your line"), ...Object.entries(WAYS).map((one) => way(...one)));
      ways.addEventListener("change", (event) => choose({ do: event.target.value }));
      const [toward, towardRow, towardStrange] = line("toward", "Towards"), [from, fromRow, fromStrange] = line("from", "Away from");
      const [where, whereRow, whereOut] = slider("where", "At layer", 0, L, 1), [times, timesRow, timesOut] = slider("times", "How much of it", -2, 3, 0.25);
      const result = node("div", { class: "live-finding", "aria-live": "polite" }), before = node("div", { class: "live-panel" }), after = node("div", { class: "live-panel" }), rows = node("div", { class: "live-scroll" });
      const part = node("section", { class: "live-edit", "aria-label": "Change its mind" }, node("p", { class: "live-title" }, "Change its mind"), result, ways,
        node("div", { class: "live-fields" }, towardRow, fromRow, whereRow, timesRow), node("div", { class: "live-two" }, before, after), rows);
      return { part, ways, toward, towardRow, towardStrange, from, fromRow, fromStrange, where, whereRow, whereOut, times, timesRow, timesOut, result, before, after, rows };
    }

    function drawEdit(reading, own) {
      if (!change) return;
      for (const radio of change.ways.querySelectorAll("input")) radio.checked = radio.value === now.do;
      for (const name of ["toward", "from"]) if (document.activeElement !== change[name]) change[name].value = now[name];
      change.where.value = now.where;
      change.whereOut.textContent = `${now.where} of ${L}`;
      change.times.value = now.times;
      change.timesOut.textContent = `${now.times} ×`;
      change.towardRow.hidden = change.whereRow.hidden = now.do === "none";
      change.fromRow.hidden = change.timesRow.hidden = now.do !== "add";
      for (const name of ["toward", "from"]) if (given.tokenizer) warn(change[`${name}Strange`], cut(now[name]).pieces, name);
      if (!editOf()) {
        const said = now.do === "none" ? "Your line is read as it is. Choose below what to write into it." : "Type an English line to take the change from.";
        change.result.replaceChildren(node("p", {}, said));
        for (const part of [change.before, change.after, change.rows]) part.replaceChildren();
        return;
      }
      const changed = known(now.model, editOf());
      if (!changed) { change.result.replaceChildren(node("p", {}, "Reading …")); return; }
      const end = reading.tokens.length - 1, at = (one) => (layer) => know.cell(one, layer, end, own);
      change.result.replaceChildren(...spoken(semhubWords.outcome(know, reading, changed, own, now.model, now.where)));
      change.before.replaceChildren(node("p", { class: "live-where" }, "As it is, it says"), list(at(reading)(L)));
      change.after.replaceChildren(node("p", { class: "live-where" }, "Changed, it says"), list(at(changed)(L)));
      change.rows.replaceChildren(towers("The end of the line, as it is and changed, layer by layer", [{ head: "as it is", mark: "", of: at(reading) }, { head: "changed", mark: "live-chosen", of: at(changed) }], own));
      for (const cell of change.rows.querySelectorAll(`td[data-layer='${now.where}'][data-column='1']`)) cell.classList.add("live-here");
    }

    // Does it when a reader has stopped typing.
    function typed(field, act) {
      let pause;
      field.addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(act, 250); });
    }

    // --- the vocabulary ---
    function vocabulary() {
      const filter = node("input", { id: id("filter"), type: "search", autocomplete: "off" }), type = node("select", { id: id("vocabulary") });
      for (const one of ["en", "es", "zh", "de", "code", "digits"]) type.append(node("option", { value: one }, NAMES[one]));
      const out = node("div", { class: "live-words" });
      const fill = () => {
        const wanted = filter.value.toLowerCase();
        out.replaceChildren(...know.words.filter((word, k) => know.has(k, type.value) && word.toLowerCase().includes(wanted)).map((word) => node("button", { type: "button", dir: "auto" }, word)));
      };
      const part = node("details", { class: "live-vocabulary" }, node("summary", {}, "The words it knows"),
        node("p", {}, `It knows ${know.words.length - 4} words and no others. Press one to put it at the end of your line.`),
        node("p", { class: "live-field" }, node("label", { for: type.id }, "Words of"), type, node("label", { for: filter.id }, "with the letters"), filter), out);
      part.addEventListener("toggle", () => { if (part.open) { const own = known(now.model) && ownType(); if (own && own !== "logic") type.value = own; fill(); } });
      type.addEventListener("change", fill);
      filter.addEventListener("input", fill);
      out.addEventListener("click", (event) => {
        const button = event.target.closest("button");
        if (button) choose({ text: `${now.text}${type.value === "zh" ? "" : " "}${button.textContent}`.trim(), at: -1 });
      });
      return part;
    }

    // --- what a reader does ---
    function choose(changes) {
      const before = asking(), taken = "text" in changes && "toward" in changes; // one of the page's lines, with what changes it
      Object.assign(now, changes);
      if (taken && before < 0) now.do = usual();
      if (!taken && before !== asking()) now.do = "none"; // what one line was changed by is not the next one's
      if ("text" in changes && document.activeElement !== input) input.value = now.text;
      drawControls();
      work();
    }
    const ask = (k, type) => {
      const one = questions[k], line = one.lines[type] ?? one.lines.es;
      input.value = line;
      choose({ text: line, at: -1, toward: one.toward, from: one.from });
    };
    form.addEventListener("submit", (event) => { event.preventDefault(); choose({ text: input.value.trim(), at: -1 }); });
    typed(input, () => choose({ text: input.value.trim(), at: -1 }));
    input.addEventListener("focus", () => ready(now.model).catch(() => {}), { once: true });
    question.addEventListener("change", () => { if (Number(question.value) >= 0) ask(Number(question.value), asking() >= 0 ? ownType() : start.type); });
    types.addEventListener("change", (event) => ask(Math.max(0, asking()), event.target.value));
    models.addEventListener("change", (event) => choose({ model: event.target.value }));
    const pick = (layer, at, focus) => {
      const reading = known(now.model);
      now.layer = Math.max(0, Math.min(L, layer));
      if (!reading) { now.at = at; return leave(); } // it is being read, and drawn when that is done
      const last = reading.tokens.length - 1;
      const place = Math.max(1, Math.min(last, at)), moved = place !== (now.at < 1 ? last : now.at);
      now.at = place === last ? -1 : place;
      if (moved) draw(); else leave();
      drawCell(reading, place, ownType(), focus);
    };
    grid.addEventListener("click", (event) => { const cell = event.target.closest("td[data-layer]"); if (cell) pick(Number(cell.dataset.layer), Number(cell.dataset.column) + 1, true); });
    grid.addEventListener("keydown", (event) => {
      const reading = known(now.model);
      if (!reading) return;
      const last = reading.tokens.length - 1, at = now.at < 1 ? last : now.at;
      const goal = { ArrowUp: [now.layer + 1, at], ArrowDown: [now.layer - 1, at], ArrowLeft: [now.layer, at - 1], ArrowRight: [now.layer, at + 1],
        Home: [now.layer, 1], End: [now.layer, last], PageUp: [L, at], PageDown: [0, at] }[event.key];
      if (!goal) return;
      event.preventDefault();
      pick(...goal, true);
    });

    // --- putting it together ---
    const title = (text, ...more) => node("p", { class: "live-title" }, text, ...more);
    const body = node("div", { class: "live-body" }, node("div", { class: "live-left" }, grid), panel);
    const parts = [node("div", { class: "live-ask" }, form, node("p", { class: "live-take" }, node("label", { for: question.id }, "or take one"), question), types, models, about),
      unknown, finding, title("What each layer holds after each word ", node("small", {}, "(the word it finds likeliest to come next)")), key, body,
      title("The same place in five models"), told, compare, others];
    if (change) parts.push(change.part, vocabulary());
    const tail = node("p", { class: "live-tail" });
    if (hero) tail.append(node("a", { class: "live-more", href: box.dataset.page }, "Change its mind: put an English thought into the Spanish line"));
    else {
      const copy = node("button", { type: "button" }, "Copy the address of what you see");
      copy.addEventListener("click", async () => {
        try { await navigator.clipboard.writeText(location.href); say("Copied."); } catch { say(`The address: ${location.href}`); }
      });
      tail.append(copy);
    }
    box.replaceChildren(...parts, tail, status);
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Your own sentence, live");
    const see = location.hash.startsWith("#see=change") && !hero; // which the address says no more once it is drawn
    if (!hero) { arrive(); addEventListener("hashchange", () => { arrive(); input.value = now.text; work(); }); }
    input.value = now.text;
    if (known(now.model) && (hero || !editOf() || known(now.model, editOf()))) draw();
    else { drawControls(); work(); }
    if (see) change.part.scrollIntoView();
  }

  return { take, read };
})();
