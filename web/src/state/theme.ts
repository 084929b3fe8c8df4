// Light, dark, or as the system has it.
import { create } from "zustand";

const KEPT = "sandkeeper.theme";
const SYSTEM = matchMedia("(prefers-color-scheme: dark)");

type Theme = { chosen: "light" | "dark" | null; isDark: boolean; toggle(): void; apply(): void };

export const useTheme = create<Theme>((set, get) => ({
  chosen: chosen(),
  isDark: (chosen() ?? (SYSTEM.matches ? "dark" : "light")) === "dark",

  toggle() {
    const next = get().isDark ? "light" : "dark";
    const isSystems = (next === "dark") === SYSTEM.matches;
    if (isSystems) localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, next);
    set({ chosen: isSystems ? null : next, isDark: next === "dark" });
    get().apply();
  },

  apply() {
    const { chosen } = get();
    if (chosen) document.documentElement.dataset.theme = chosen;
    else delete document.documentElement.dataset.theme;
  },
}));

SYSTEM.addEventListener("change", ({ matches }) => {
  if (!useTheme.getState().chosen) useTheme.setState({ isDark: matches });
});

function chosen(): "light" | "dark" | null {
  const kept = localStorage.getItem(KEPT);
  return kept === "light" || kept === "dark" ? kept : null;
}
