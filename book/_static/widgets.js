// Tells require.js where the widget manager (its fonts) and anywidget lie, so that nothing is asked of a delivery network.
// `base` is this script's own folder: right under file://, at the root of a server and under a sub-path alike.
(() => {
  const base = new URL("vendor/", document.currentScript.src).href;
  requirejs.config({
    paths: {
      "@jupyter-widgets/html-manager/dist": base + "html-manager",
      anywidget: base + "anywidget/index",
    },
  });
})();
