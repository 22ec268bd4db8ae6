// What holds of which model: draws the matrix of a page from the JSON beside it, and shows a cell's claims in place.
// A model's claims come as a classic script when they are first asked for, so that it works from disk as well.
(() => {
  const base = document.currentScript?.src.replace(/[^/]*$/, "") ?? "";
  const given = {}, waiting = {};
  window.semhubHolds = (slug, data) => { given[slug] = data; waiting[slug]?.forEach((tell) => tell(data)); };
  // The claims of a model, as semhub_utils.holds.script writes them.
  window.semhubModel = (slug) => new Promise((tell, fail) => {
    if (given[slug]) return tell(given[slug]);
    (waiting[slug] ??= []).push(tell);
    if (waiting[slug].length > 1) return;
    const script = document.createElement("script");
    script.src = `${base}holds/${slug}.js`;
    script.onerror = () => { delete waiting[slug]; fail(new Error(`The results of ${slug} are not there.`)); };
    document.head.append(script);
  });

  // What can be shown beside a page's own model, which its answer names: the other ones on file.
  const own = document.querySelector("p.answer-model")?.textContent.replace(/^.*?[oO]n /, "");
  window.semhubOthers = (window.semhubModels ?? []).filter(({ label }) => !`${own}-`.startsWith(`${label}-`)); // hub-sees is the hub

  const made = (tag, attributes = {}, ...inside) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
    node.append(...inside.filter((one) => one !== null && one !== ""));
    return node;
  };
  const titled = ({ name }) => name.replace("/", ": ").replaceAll("-", " "); // a claim of the book's own: <chapter>/<claim>
  const cut = (x) => (x === null || x === undefined ? "–" : Math.abs(x) < 1000 ? `${+(+x).toPrecision(3)}` : x.toFixed(0)).replace("-", "−");
  const band = (of) => `${cut(of.statistic ?? of.value)}${of.low === null || of.low === undefined ? "" : ` [${cut(of.low)}, ${cut(of.high)}]`}`;
  const pOf = (p) => (p === null || p === undefined ? null : p < 0.001 ? "p < 0.001" : `p = ${cut(p)}`);
  const named = (key) => key.replace(/[^\p{L}\p{N}_.-]+/gu, "-");
  const familyOf = (claim) => claim.id.split("/").slice(0, 2).join("/");

  // Value by depth with its interval; the null's bound dotted, controls thin.
  function curve(claim) {
    const own = claim.curves[""], [w, h] = [300, 90], layers = own.layers;
    const numbers = Object.values(claim.curves).flatMap((of) => [...of.values, ...(of === own ? [...of.low, ...of.high, ...own.null_high] : [])]).filter((v) => v !== null);
    if (layers.length < 2 || !numbers.length) return null;
    const low = Math.min(0, ...numbers), high = Math.max(0, ...numbers), span = high - low || 1;
    const x = (i) => (layers[i] / claim.n_layers) * (w - 4) + 2, y = (v) => h - 4 - ((v - low) / span) * (h - 8);
    const points = (values) => values.map((v, i) => (v === null ? "" : `${x(i).toFixed(1)},${y(v).toFixed(1)}`)).filter(Boolean);
    const svg = (tag, of) => { const n = document.createElementNS("http://www.w3.org/2000/svg", tag); Object.entries(of).forEach((a) => n.setAttribute(...a)); return n; };
    const label = `By depth, from layer ${layers[0]} to ${layers.at(-1)}: from ${cut(own.values[0])} to ${cut(own.values.at(-1))}`;
    const box = svg("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": label, class: "holds-curve" });
    box.append(svg("line", { x1: 0, x2: w, y1: y(0), y2: y(0), class: "zero" }));
    box.append(svg("polygon", { points: [...points(own.low), ...points(own.high).reverse()].join(" "), class: "band" }));
    box.append(svg("polyline", { points: points(own.null_high).join(" "), class: "null" }));
    for (const [name, of] of Object.entries(claim.curves)) box.append(svg("polyline", { points: points(of.values).join(" "), class: name ? "control" : "own" }));
    return box;
  }

  function strip(claim, marks, pages) {
    const word = claim.verdict === "explained by" ? `explained by ${claim.by}` : claim.verdict;
    const controls = Object.entries(claim.controls ?? {}).map(([name, of]) => `${name} ${band(of)}`).join("; ");
    const facts = [
      [claim.unit, claim.statistic === null ? null : `${band(claim)} at layer ${claim.layer} of ${claim.n_layers}${claim.place ? `, ${claim.place}` : ""}`],
      ["p against its null, corrected", pOf(claim.p)],
      ["The middle above", Object.entries(claim.contrasts ?? {}).map(([name, of]) => `${name} ${band(of)}, ${pOf(of.p)}`).join("; ") || null],
      ["Items", `${claim.n}, ${claim.n_units} independent units`],
      ["Controls", controls || null],
      ["Planted effects found", claim.found ? `${claim.found.k} of ${claim.found.m}` : null],
      ["Form", claim.form || null],
      ["Of", typeof claim.items === "string" ? claim.items : null],
      ["Rule", claim.reason],
    ];
    const list = made("dl", {}, ...facts.filter(([, of]) => of !== null).map(([name, of]) => made("div", {}, made("dt", {}, name), made("dd", {}, of))));
    return made("article", { "data-verdict": claim.verdict },
      made("p", { class: "head" }, made("span", { "aria-hidden": "true" }, `${marks[claim.verdict]} `), made("strong", {}, word), ` ${claim.claim}`),
      claim.paper ? made("p", { class: "paper" }, `The paper: ${claim.paper}`) : null,
      pages[claim.chapter] ? made("p", {}, made("a", { href: `${base}${pages[claim.chapter]}#${claim.at}` }, "Where its chapter asks it")) : null,
      claim.stale ? made("p", {}, "Stale: the experiment says something else today than when this was recorded.") : null,
      made("details", {}, made("summary", {}, "Numbers"), list, curve(claim) ?? ""));
  }

  function provenance(data, claims, row) {
    const run = data.runs[claims[0]?.chapter] ?? {};
    const files = Object.entries(run.files ?? {}).map(([name, sha]) => `${name} (sha256 ${sha.slice(0, 12)}…)`).join(", ");
    const versions = Object.entries(run.versions ?? {}).map((of) => of.join(" ")).join(", ");
    const told = data.predicted[row], facts = [data.name, files, `items: ${run.data}`, `${Math.round(run.seconds)} s`, versions, (run.finished ?? "").slice(0, 10)];
    return made("div", { class: "from" },
      told ? made("p", {}, `Predicted before the run: ${told.verdict}. ${told.reason}`) : null,
      made("p", {}, `From: ${facts.filter(Boolean).join("; ")}.`));
  }

  function matrix(box) {
    const { models, rows, kinds, marks, own, pages } = JSON.parse(box.querySelector("script").textContent);
    if (!models.length) return box.append(made("p", {}, "No results were found when this page was built."));
    const key = (row, model) => `row-${named(row.key)}--${model.slug}`;
    const select = (name, label, values) => made("label", {}, `${label} `, made("select", { name }, made("option", { value: "" }, "all"), ...values.map((v) => made("option", {}, v))));
    const everyType = rows.flatMap((row) => [...new Set(row.cells.flatMap((cell) => Object.keys(cell.types ?? {})))]);
    const types = [...new Set(everyType)].filter((name, k) => name && everyType.filter((one) => one === name).length > 1).sort(); // of one row alone is no type of data
    const real = models.some((model) => !model.known), count = made("p", { class: "count", "aria-live": "polite" });
    const ticks = models.map((model, k) => made("label", {}, made("input", { type: "checkbox", value: model.slug, checked: real ? !model.known || k < 2 : k < 6 }), ` ${model.label}`));
    const filters = ["type", "part", "verdict"], boxes = ticks.map((label) => label.firstChild);
    const tools = made("form", { class: "tools", "aria-label": "What is shown" },
      select("type", "Data type", types), select("part", "Claims of", ["the paper", "the book"]), select("verdict", "Verdict", kinds),
      made("fieldset", {}, made("legend", {}, "Models"), ...ticks));
    const head = made("tr", {}, made("th", { scope: "col" }, "Experiment"), ...models.map((m) => made("th", { scope: "col", "data-model": m.slug }, m.label, m.said ? made("small", {}, m.said) : null)));
    const table = made("table", {}, made("thead", {}, head));

    function filled(td, cell, id, type) {
      const kind = type && cell.types ? kindOf(cell.types[type]) : cell.kind;
      td.dataset.kind = kind ?? "";
      if (cell.how) return td.replaceChildren(made("details", {}, made("summary", {}, `${marks[cell.kind]} ${cell.said}`), made("code", {}, cell.how)));
      const inside = [made("span", { "aria-hidden": "true" }, marks[kind] ?? "–"), made("span", { class: "said" }, type ? cell.types[type] ?? "no such claim" : cell.said)];
      if (!type && cell.number) inside.push(made("span", { class: "value" }, cell.number));
      const where = [type ? "" : cell.where, cell.stale ? "stale" : ""].filter(Boolean).join(" · ");
      if (where) inside.push(made("span", { class: "where" }, where));
      const button = made("button", { type: "button", id, "aria-expanded": "false" }, ...inside);
      button.addEventListener("click", () => toggle(button));
      td.replaceChildren(button);
    }
    const kindOf = (verdict) => kinds.find((kind) => verdict?.startsWith(kind) && !(kind === "holds" && verdict.startsWith("holds weakly")));

    let group = null, body = null;
    const lines = rows.map((row) => {
      if (row.group !== group) {
        group = row.group;
        const fold = made("button", { type: "button", "aria-expanded": "true" }, group, made("small", {}));
        body = table.appendChild(made("tbody", {}, made("tr", { class: "group" }, made("th", { colspan: models.length + 1, scope: "rowgroup" }, fold))));
        const here = body;
        fold.addEventListener("click", () => unfold(here, here.classList.contains("folded")));
      }
      const name = /^\d+$/.test(row.key) ? `${row.key} ${row.name}` : titled(row);
      const cells = row.cells.map((cell, k) => made("td", { "data-model": models[k].slug, "data-label": models[k].label }));
      const line = body.appendChild(made("tr", {}, made("th", { scope: "row" }, name, row.said ? made("small", {}, row.said) : null), ...cells));
      line.row = row;
      return line;
    });

    // Groups fold: on a phone all are folded until one is opened, or something is chosen above or in the address.
    function unfold(body, open) {
      body.classList.toggle("folded", !open);
      body.querySelector(".group button").setAttribute("aria-expanded", String(open));
    }

    function close() {
      box.querySelector("tr.open")?.remove();
      box.querySelector('[aria-expanded="true"]')?.setAttribute("aria-expanded", "false");
    }
    // What is shown, as an address that can be sent: what is chosen above, the models where others are ticked, the cell.
    function addressed(cell) {
      const said = new URLSearchParams(filters.filter((name) => tools.elements[name].value).map((name) => [name, tools.elements[name].value]));
      if (boxes.some((one) => one.checked !== one.defaultChecked)) said.set("models", boxes.filter((one) => one.checked).map((one) => one.value).join());
      const hash = [`${said}`, cell].filter(Boolean).join("&");
      history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
    }
    function away() {
      close();
      addressed("");
    }
    async function toggle(button) {
      const open = button.getAttribute("aria-expanded") === "true", td = button.closest("td"), line = td.closest("tr");
      if (open) return away();
      close();
      button.setAttribute("aria-expanded", "true");
      addressed(button.id);
      const inside = made("td", { colspan: models.length + 1 }, "Loading …");
      line.after(made("tr", { class: "open" }, inside));
      try {
        const data = await window.semhubModel(td.dataset.model), { key: which } = line.row, type = tools.elements.type.value;
        const mine = data.claims.filter((claim) => (claim.row === "own" ? familyOf(claim) === which : String(claim.row) === which && claim.paper));
        const shown = type ? mine.filter((claim) => claim.id.split("/").slice(2).join("/") === type) : mine;
        const title = made("h2", {}, `${titled(line.row)} on ${data.label} `, made("a", { href: location.hash }, "link"));
        const shut = made("button", { type: "button" }, "Close");
        shut.addEventListener("click", () => { away(); button.focus(); });
        inside.addEventListener("keydown", ({ key: pressed }) => { if (pressed === "Escape") shut.click(); });
        inside.replaceChildren(made("div", { class: "claims" }, title, ...shown.map((claim) => strip(claim, marks, pages)), provenance(data, mine, which), shut));
      } catch (error) {
        inside.textContent = error.message;
      }
    }

    function refresh() {
      const [type, part, verdict] = filters.map((name) => tools.elements[name].value);
      const on = new Set(boxes.filter((one) => one.checked).map((one) => one.value));
      let shown = 0;
      close();
      for (const cell of table.querySelectorAll("[data-model]")) cell.hidden = !on.has(cell.dataset.model);
      for (const line of lines) {
        const { row } = line, cells = [...line.querySelectorAll("td")];
        cells.forEach((td, k) => filled(td, row.cells[k], key(row, models[k]), type));
        const here = cells.filter((td) => !td.hidden && (!verdict || td.dataset.kind === verdict));
        cells.forEach((td) => td.classList.toggle("pale", Boolean(verdict) && td.dataset.kind !== verdict));
        const has = !type || row.cells.some((cell, k) => on.has(models[k].slug) && cell.types?.[type]);
        line.hidden = !has || !here.length || (part && (part === "the book") !== own.includes(row.group));
        shown += line.hidden ? 0 : here.length;
      }
      for (const some of table.tBodies) {
        const there = [...some.rows].slice(1).filter((line) => !line.hidden).length;
        some.hidden = !there;
        some.querySelector(".group small").textContent = `${there} row${there === 1 ? "" : "s"}`;
        if (type || verdict || part) unfold(some, true);
      }
      count.textContent = `${shown} cell${shown === 1 ? "" : "s"}.`;
    }
    tools.addEventListener("change", () => { refresh(); addressed(""); });
    tools.addEventListener("submit", (event) => event.preventDefault());
    box.append(tools, count, made("div", { class: "box", tabindex: "0", role: "region", "aria-label": "What holds of which model" }, table));
    refresh();
    if (matchMedia("(max-width: 700px)").matches) for (const some of table.tBodies) unfold(some, false);

    function fromAddress() {
      const said = new URLSearchParams(location.hash.slice(1)), id = [...said.keys()].find((name) => name.startsWith("row-"));
      if (!id && ![...filters, "models"].some((name) => said.has(name))) return; // of another part of the page
      const wanted = said.get("models")?.split(","), model = id && models.find((one) => id.endsWith(`--${one.slug}`));
      for (const name of filters) {
        const select = tools.elements[name], value = said.get(name) ?? "";
        select.value = [...select.options].some((option) => option.value === value) ? value : "";
      }
      for (const one of boxes) one.checked = (wanted?.includes(one.value) ?? one.defaultChecked) || one.value === model?.slug;
      refresh();
      const button = id && document.getElementById(id);
      if (button) { unfold(button.closest("tbody"), true); button.click(); button.scrollIntoView({ block: "center" }); }
    }
    addEventListener("hashchange", fromAddress);
    fromAddress();
  }

  // The claim that a row of a chart is of, of those of a model: in the chapter, else in another, in the row's reading.
  window.semhubClaim = (claims, chapter, row) => {
    const found = claims.find((c) => c.id === `${chapter}/${row.claim}`) ?? claims.find((c) => c.id.endsWith(`/${row.claim}`));
    return found && (!row.reading || row.reading === found.reading) ? found : null;
  };

  // A chart of claims' curves shows those of another model instead: its specification with that model's numbers. Rows
  // that are no claim's, or of a reading that no claim rests on, are left out.
  window.semhubSwapped = (spec, claims, chapter) => {
    const out = structuredClone(spec);
    for (const [name, values] of Object.entries(out.datasets ?? {})) {
      if (!values.some((row) => row.claim)) continue;
      const kinds = new Map();
      for (const row of values) kinds.set([row.claim, row.of, row.series, row.reading].join("|"), row);
      out.datasets[name] = [...kinds.values()].flatMap((row) => {
        const claim = row.claim && window.semhubClaim(claims, chapter, row);
        const of = claim?.curves[row.of && row.of !== row.series ? row.series : ""];
        if (!of) return [];
        const layers = of.layers ?? claim.curves[""].layers, at = (k, i) => of[k]?.[i] ?? null;
        return layers.map((layer, i) => ({ ...row, layer, depth: layer / claim.n_layers, value: at("values", i), low: at("low", i), high: at("high", i), null_high: at("null_high", i), n: claim.n, p: null }));
      });
    }
    return out;
  };

  const start = () => document.querySelectorAll(".holds").forEach(matrix);
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start); else start();
})();
