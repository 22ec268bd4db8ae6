// Tells require.js where anywidget lies, so that the widget manager asks no content delivery network for it.
// `base` is this script's own folder: right under file://, at the root of a server and under a sub-path alike.
(() => {
  const base = new URL(".", document.currentScript.src).href;
  requirejs.config({ paths: { anywidget: base + "vendor/anywidget/index" } });
})();
