import { defineConfig } from "vite";

// Everything is a file of its own with a hash in its name: the page's Content-Security-Policy
// allows nothing inline, and such files may be cached for ever.
export default defineConfig({
  build: {
    outDir: "../src/infrawatch/web/dist/page",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
  // `npx vite` beside a running server.
  server: { proxy: { "/v1": { target: "http://127.0.0.1:8000", ws: true }, "/metrics": "http://127.0.0.1:8000" } },
});
