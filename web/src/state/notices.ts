// What the page has to say: shown for a while, and read out by screen readers.
import { create } from "zustand";
import { sentence } from "../api/client";

export type Offer = { label: string; act(): void };
export type Notice = { id: number; text: string; tone: "calm" | "bad"; offer?: Offer };

type Notices = {
  notices: Notice[];
  /** Said to screen readers alone: others see it. */
  whisper: string;
  say(text: string, tone?: Notice["tone"], offer?: Offer): void;
  dismiss(id: number): void;
};

const SHOWN_MS = 8_000;
let count = 0;

export const useNotices = create<Notices>((set, get) => ({
  notices: [],
  whisper: "",
  say(text, tone = "calm", offer) {
    const id = ++count;
    const others = get().notices.filter((notice) => notice.text !== text);
    set({ notices: [...others.slice(-2), { id, text, tone, offer }] });
    setTimeout(() => get().dismiss(id), SHOWN_MS);
  },
  dismiss(id) {
    set({ notices: get().notices.filter((notice) => notice.id !== id) });
  },
}));

/** Does it, and says so if it fails. */
export async function attempt(action: () => Promise<unknown>): Promise<void> {
  try {
    await action();
  } catch (error) {
    useNotices.getState().say(sentence(error), "bad");
  }
}
