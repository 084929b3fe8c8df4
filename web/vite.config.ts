import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the content policy takes no data: URLs for scripts and fonts
    chunkSizeWarningLimit: 900, // Vega; it is loaded when a chart is looked at
    modulePreload: { polyfill: false },
  },
  server: {
    // `npm run dev` beside `make run`.
    proxy: { "/api": "http://127.0.0.1:8000", "/config.json": "http://127.0.0.1:8000" },
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
});
