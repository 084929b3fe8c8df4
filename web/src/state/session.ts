// The chat's session: what its sandbox is doing, and whether variables were lost.
import { create } from "zustand";
import { api, found, told } from "../api/client";
import type { EndReason, ErrorDetail, SessionDetail, SessionSchema } from "../api/schema";

/** How a run can end that takes the variables with it. */
const DEADLY: Partial<Record<ErrorDetail["kind"], EndReason>> = {
  sandbox_lost: "sandbox_lost",
  kernel_died: "kernel_died",
  out_of_memory: "kernel_died",
};

type Session = {
  chatId: string;
  /** Undefined until it is known; null where there is none. */
  live: SessionDetail | null | undefined;
  /** What became of the session in the last run that this page has seen. */
  last: SessionSchema | null;
  /** Variables of earlier runs are gone, and nothing has been said to that yet. */
  loss: EndReason | "unknown" | null;
  open(chatId: string): void;
  refresh(): Promise<void>;
  heard(session: SessionSchema, failure: ErrorDetail["kind"] | null): void;
  accept(): void;
  restart(): Promise<void>;
  close(): Promise<void>;
};

export const useSession = create<Session>((set, get) => ({
  chatId: "",
  live: undefined,
  last: null,
  loss: null,

  open(chatId) {
    set({ chatId, live: undefined, last: null, loss: null });
    void get()
      .refresh()
      .catch(() => undefined);
  },

  async refresh() {
    const { chatId } = get();
    const live = await found(api.GET("/api/chats/{chatId}/session", { params: { path: { chatId } } }));
    if (get().chatId === chatId) set({ live });
  },

  heard(session, failure) {
    const loss =
      failure && DEADLY[failure] ? DEADLY[failure] : session.stateReset ? (session.reason ?? "unknown") : null;
    set({ last: session, ...(loss ? { loss } : {}) });
  },

  accept() {
    set({ loss: null });
  },

  async restart() {
    await told(api.POST("/api/chats/{chatId}/session/restart", { params: { path: { chatId: get().chatId } } }));
    set({ loss: null });
    await get().refresh();
  },

  async close() {
    await told(api.DELETE("/api/jupyter/execute", { params: { query: { chatId: get().chatId } } }));
    set({ last: null, loss: null });
    await get().refresh();
  },
}));

const REASONS: Record<EndReason | "unknown", string> = {
  closed: "the session had been closed",
  expired: "the session had not been used for long",
  forced: "an operator had ended the session",
  sandbox_lost: "the sandbox was lost",
  restarted: "the kernel was restarted",
  kernel_died: "the kernel had ended",
  unknown: "the session is another one",
};

/** Returns why variables are gone, as a part of a sentence. */
export function reasonOf(loss: EndReason | "unknown"): string {
  return REASONS[loss] ?? REASONS.unknown;
}
