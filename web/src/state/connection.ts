// Who is calling. The key stays in this tab: in memory, and in its sessionStorage; never in an address.
import { create } from "zustand";
import { api, callWith, onUnknownKey, Refused, sentence, told } from "../api/client";

const KEPT = "sandkeeper.key";

type Connection = {
  phase: "starting" | "asking" | "connected";
  problem: string | null;
  start(): Promise<void>;
  connect(key: string): Promise<void>;
  forget(problem?: string): void;
};

export const useConnection = create<Connection>((set, get) => ({
  phase: "starting",
  problem: null,

  /** Connects with the key that this tab has, or with the one that the local stack gives its own page. */
  async start() {
    const key = sessionStorage.getItem(KEPT) ?? (await localKey());
    if (key) await get().connect(key);
    else set({ phase: "asking" });
  },

  async connect(key) {
    callWith(key);
    try {
      await told(api.GET("/api/sessions", { params: { query: { limit: 1 } } }));
      sessionStorage.setItem(KEPT, key);
      set({ phase: "connected", problem: null });
    } catch (error) {
      const isUnknown = error instanceof Refused && error.status === 401;
      get().forget(isUnknown ? "The API does not know this key." : sentence(error));
    }
  },

  forget(problem) {
    sessionStorage.removeItem(KEPT);
    callWith("");
    set({ phase: "asking", problem: problem ?? null });
  },
}));

onUnknownKey(() => {
  const { phase, forget } = useConnection.getState();
  if (phase === "connected") forget("The API does not know this key any more.");
});

async function localKey(): Promise<string | null> {
  try {
    const response = await fetch("/config.json");
    return response.ok ? ((await response.json()) as { apiKey: string }).apiKey : null;
  } catch {
    return null;
  }
}
