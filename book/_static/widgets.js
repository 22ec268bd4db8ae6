// Shows the page's widgets without a manager: each is a module with a `render` function and a bag of traits, as anywidget
// has it. What is no such widget is left out.
(() => {
  const parts = (kind) => document.querySelectorAll(`script[type="application/vnd.jupyter.widget-${kind}+json"]`);
  const states = Object.assign({}, ...[...parts("state")].map((script) => JSON.parse(script.textContent).state));
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const styles = new Set();

  function model({ state, buffers = [] }) {
    const traits = { ...state, ...Object.fromEntries(buffers.map(({ path, data }) => [path[0], bytes(data)])) };
    const heard = {};
    return {
      get: (name) => traits[name],
      set(name, value) {
        const same = JSON.stringify(traits[name]) === JSON.stringify(value);
        traits[name] = value;
        if (!same) for (const react of heard[`change:${name}`] ?? []) react();
      },
      on: (event, react) => (heard[event] ??= new Set()).add(react),
      off: (event, react) => heard[event]?.delete(react),
      save_changes() {},
    };
  }

  async function show(script) {
    const one = states[JSON.parse(script.textContent).model_id];
    if (!one?.state._esm) return;
    const { _esm: code, _css: style } = one.state;
    if (style && !styles.has(style)) document.head.append(Object.assign(document.createElement("style"), { textContent: style }));
    styles.add(style);
    const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    const { default: widget } = await import(address);
    URL.revokeObjectURL(address);
    const box = Object.assign(document.createElement("div"), { className: "widget-subarea" });
    script.after(box);
    await widget.render({ model: model(one), el: box });
  }
  parts("view").forEach(show);
})();
