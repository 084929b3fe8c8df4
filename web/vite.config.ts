import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the content policy takes no data: URLs for scripts and fonts
    chunkSizeWarningLimit: 5_000, // Plotly; it is loaded when a figure of it is shown, as Vega is for charts
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ["index.html", "figure.html"], checks: { pluginTimings: false } },
  },
  server: {
    // `npm run dev` beside `make run`.
    proxy: { "/api": "http://127.0.0.1:8000", "/config.json": "http://127.0.0.1:8000" },
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
});
