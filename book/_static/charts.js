// Draws each chart of the page when it comes near, all before printing, and again when the reader changes the colour mode.
// Colours come from the theme's own CSS variables, so that charts and text always agree.
(() => {
  const root = document.documentElement;

  function themeConfig() {
    const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
    const text = colour("--pst-color-text-base");
    const muted = colour("--pst-color-text-muted");
    const line = colour("--pst-color-border");
    const font = getComputedStyle(document.body).fontFamily;
    const words = { labelColor: muted, titleColor: text };
    return {
      background: "transparent",
      font,
      view: { stroke: line },
      axis: { ...words, domainColor: line, gridColor: line, tickColor: line, gridOpacity: 0.5 },
      legend: words,
      header: words,
      title: { color: text, subtitleColor: muted },
      text: { color: text },
      rule: { color: text },
    };
  }

  // A specification's own settings stay, except for what has to follow the colour mode.
  function merge(own, theme) {
    const out = { ...own };
    for (const [key, value] of Object.entries(theme)) {
      const nested = value && typeof value === "object" && out[key] && typeof out[key] === "object";
      out[key] = nested ? merge(out[key], value) : value;
    }
    return out;
  }

  // What the reader has set on the chart (sliders, menus) survives the redrawing.
  function settings(view, spec) {
    const names = (spec.params ?? []).filter((p) => p.bind && !p.select).map((p) => p.name);
    return names.map((name) => [name, view.signal(name)]);
  }

  // A line is named at its end instead of in a legend where there are few names and there is room beside the plot. The names
  // stand below one another: pushed down by those above, then up by the frame. `patch` changes the compiled specification.
  const STEP = 15; // pixels from one name to the next
  function beside(spec, width) {
    const names = spec.usermeta?.ends ?? [];
    const wide = 30 + 6.5 * Math.max(...names.map((name) => name.length), 0);
    return names.length && names.length <= 9 && wide < 0.33 * width && width >= 560 ? wide : 0;
  }
  function named(compiled, wide, colour, others) { // others: what a legend names all the same
    const lines = compiled.marks.find(({ marks }) => marks?.some(({ type, encode }) => type === "line" && encode.update.strokeDash?.field)); // not the null's
    if (!lines) return compiled;
    const { x, y, stroke, strokeDash, opacity } = lines.marks[0].encode.update, { facet } = lines.from, field = `datum["${y.field}"]`;
    const strong = [opacity].flat().find((of) => of?.test)?.test ?? "true"; // pale lines have no name
    const ends = [
      { type: "filter", expr: `isValid(${field}) && (${strong})` },
      { type: "joinaggregate", groupby: facet.groupby, ops: ["max"], fields: [x.field], as: ["last"] },
      { type: "filter", expr: `datum["${x.field}"] === datum.last` },
      { type: "formula", as: "end", expr: `scale("${y.scale}", ${field})` },
      { type: "window", sort: { field: "end" }, ops: ["row_number"], as: ["rank"] },
      { type: "formula", as: "free", expr: `datum.end - ${STEP} * datum.rank` },
      { type: "window", sort: { field: "rank" }, frame: [null, 0], ops: ["max"], fields: ["free"], as: ["free"] },
      { type: "joinaggregate", ops: ["count"], as: ["all"] },
      { type: "formula", as: "at", expr: `min(datum.free + ${STEP} * datum.rank, height - ${STEP} * (datum.all - datum.rank))` },
    ];
    compiled.data.push({ name: "line_ends", source: facet.data, transform: ends });
    const from = { data: "line_ends" }, right = (offset) => ({ signal: "width", offset });
    const start = { x: { ...x, offset: 5 }, y: { field: "end" }, x2: right(16), y2: { field: "at" } };
    const text = { x: right(20), y: { field: "at" }, text: { field: stroke.field }, limit: { value: wide - 22 } };
    // Vega makes room for what stands beside a plot, and only once: as much as the longest name may take.
    const room = { x: right(0), x2: right(wide), opacity: { value: 0 } };
    const look = { fill: { value: colour }, fontSize: { value: 12 }, baseline: { value: "middle" } };
    compiled.marks.push(
      { type: "rule", aria: false, interactive: false, encode: { update: room } },
      { type: "rule", name: "line_ways", aria: false, interactive: false, from, encode: { update: { ...start, stroke, strokeDash, strokeWidth: { value: 1.5 } } } },
      { type: "text", name: "line_names", aria: false, interactive: false, from, encode: { update: { ...text, ...look } } },
    );
    const legends = others.length ? compiled.legends.map((legend) => ({ ...legend, values: others })) : [];
    return { ...compiled, legends };
  }

  async function draw(box) {
    const spec = structuredClone(box.spec);
    const kept = box.view ? settings(box.view, spec) : [];
    spec.config = merge(spec.config ?? {}, themeConfig());
    box.room = box.target.clientWidth;
    box.beside = beside(spec, box.room);
    const others = (spec.layer ?? []).some(({ encoding }) => encoding?.strokeDash?.datum === "null") ? ["null"] : [];
    const patch = (compiled) => (box.beside ? named(compiled, box.beside, spec.config.legend.labelColor, others) : compiled);
    const result = await vegaEmbed(box.target, spec, { actions: false, renderer: "svg", patch, tooltip: { theme: root.dataset.theme } });
    box.finalize?.();
    box.view = result.view;
    box.finalize = result.finalize;
    for (const [name, value] of kept) box.view.signal(name, value);
    await box.view.runAsync();
    box.dataset.drawn = root.dataset.theme ?? "";
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; // a box that scrolls can be reached by keyboard
  }

  // A figure can be taken along: as a drawing in today's colours, or as the numbers that it shows.
  const kinds = {
    svg: (box) => box.view.toImageURL("svg"),
    png: (box) => box.view.toImageURL("png", 2),
    csv: (box) => {
      const rows = Object.values(box.spec.datasets ?? {}).sort((a, b) => b.length - a.length)[0] ?? [];
      const names = [...new Set(rows.flatMap(Object.keys))];
      const cell = (value) => (/[",\n]/.test(value ?? "") ? `"${String(value).replaceAll('"', '""')}"` : value ?? "");
      const lines = [names, ...rows.map((row) => names.map((name) => row[name]))].map((line) => line.map(cell).join(","));
      return URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    },
  };
  function offer(box) {
    const bar = document.createElement("p");
    bar.className = "figure-save";
    bar.append("Save as ");
    for (const [kind, address] of Object.entries(kinds)) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: kind.toUpperCase() });
      button.addEventListener("click", async () => {
        const name = box.closest("figure")?.id || "figure";
        Object.assign(document.createElement("a"), { href: await address(box), download: `${name}.${kind}` }).click();
      });
      bar.append(button, " ");
    }
    const data = box.closest("figure")?.querySelector("details.data-table > summary");
    (data ?? box).after(bar);
    if (data) Object.assign(data, { textContent: "Data ⤓", title: "The numbers, and the figure as a file" });
  }

  const boxes = [...document.querySelectorAll(".semhub-vega")];
  for (const box of boxes) {
    box.spec = JSON.parse(box.querySelector("script").textContent);
    box.target = box.appendChild(document.createElement("div"));
    offer(box);
  }
  // In words, as the caption of the page's own model: the highest of each curve that is drawn of another.
  function peaks(box, spec) {
    const at = settings(box.view, spec).map(([name, value]) => [name.replace(/_choice$/, ""), value]).filter(([column]) => !["of", "series"].includes(column));
    const shown = Object.values(spec.datasets ?? {}).flat().filter((row) => isFinite(row.value ?? NaN) && (!row.of || row.of === row.series)
      && at.every(([column, value]) => !row[column] || row[column] === value));
    const best = new Map();
    for (const row of shown) if (!(row.value <= best.get(row.series)?.value)) best.set(row.series, row);
    const told = [...best.values()].sort((a, b) => b.value - a.value).slice(0, 4).map((row) => `${row.series} ${+row.value.toPrecision(3)} at layer ${row.layer}`);
    const chosen = at.map(([, value]) => value).filter((value) => !best.has(value)).join(", ");
    return told.length ? `: highest${chosen && ` for ${chosen}`}: ${told.join("; ")}.` : ".";
  }
  // Curves of claims by depth can be those of another model on file, which is loaded when it is chosen: of one that has
  // such claims, in figures that draw a claim once.
  const chapter = location.pathname.match(/\d+_(\w+)\.html/)?.[1];
  const models = (window.semhubOthers ?? []).filter((model) => model.chapters.includes(chapter));
  for (const box of boxes) {
    const rows = Object.values(box.spec.datasets ?? {}).flat().filter((row) => row.claim && "depth" in row && (!row.of || row.of === row.series));
    const drawn = new Map(rows.map((row) => [`${row.claim}|${row.series}`, row]));
    if (new Set([...drawn.values()].map((row) => row.claim)).size < drawn.size) continue;
    const has = ({ claims }) => [...drawn.values()].some((row) => window.semhubClaim(claims, chapter, row));
    const offered = models.filter(has);
    if (!offered.length) continue;
    const own = box.spec, alt = box.getAttribute("aria-label"), label = document.createElement("label"), choice = document.createElement("select");
    const [said, whose] = [document.createElement("span"), document.createElement("span")];
    said.setAttribute("role", "status");
    for (const { slug, label: name } of [{ slug: "", label: "of this page" }, ...offered]) choice.add(new Option(name, slug));
    label.append("Model ", choice);
    label.className = "semhub-models";
    label.append(said);
    box.prepend(label);
    box.closest("figure")?.querySelector("figcaption b")?.after(whose);
    choice.addEventListener("change", async () => {
      said.textContent = "";
      try {
        box.spec = choice.value ? window.semhubSwapped(own, (await window.semhubModel(choice.value)).claims, chapter) : own;
        const name = choice.selectedOptions[0].text;
        whose.textContent = choice.value ? ` Drawn of ${name}${peaks(box, box.spec)} Of this page’s own model, as in the data below:` : "";
        box.setAttribute("aria-label", choice.value ? `Drawn of ${name}. Of this page’s own model: ${alt}` : alt);
      } catch (error) {
        said.textContent = error.message;
      }
      queue = queue.then(() => draw(box));
    });
  }

  // Vega measures its container when the window changes size, while the page may still be on its way to the new layout,
  // and it forgets a new width that comes while it makes room for the axes. So a chart at rest is told its room, and
  // another one before, in case it forgets the first.
  async function fit(box) {
    const room = box.target.clientWidth;
    if (!room || room === box.room || !box.view) return; // hidden, not yet drawn, or a new height, which is the chart's own doing
    if (!box.beside !== !beside(box.spec, room)) return draw(box); // names at the lines' ends come or go
    box.room = room;
    await box.view.runAsync();
    for (const width of [room - 1, room]) await box.view.width(width).runAsync();
  }
  // One chart after the other, and one redrawing after the other.
  let queue = Promise.resolve();
  const settled = new ResizeObserver((entries) => {
    for (const { target } of entries) queue = queue.then(() => fit(target));
  });
  for (const box of boxes) settled.observe(box);
  const drawEach = (some) => {
    for (const box of some) {
      near.unobserve(box);
      box.wanted = true;
      if (box.spec.datasets?.pictures) box.last = Promise.resolve(box.last).then(() => draw(box)); // others need not wait
      else queue = queue.then(() => draw(box));
    }
  };
  const near = new IntersectionObserver(
    (entries) => drawEach(entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target)),
    { rootMargin: "600px 0px" },
  );
  for (const box of boxes) {
    box.target.style.minHeight = `${box.spec.height ?? 320}px`; // what is below stays where it is, or nearly so
    near.observe(box);
  }
  new MutationObserver(() => drawEach(boxes.filter((box) => box.wanted))).observe(root, { attributes: true, attributeFilter: ["data-theme"] });
  // A browser that prints waits for promises that wait for nothing else, and so for all of this but pictures.
  addEventListener("beforeprint", () => drawEach(boxes.filter((box) => !box.wanted)));
})();
