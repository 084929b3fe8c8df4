// Which chat and notebook are open: in the address, so that it can be bookmarked and two tabs can share one.
import { create } from "zustand";

const RECENT = "sandkeeper.chats";
const MOST_RECENT = 12;

type Place = {
  chatId: string;
  notebookId: string | null;
  recent: string[];
  open(chatId: string, notebookId?: string | null): void;
};

export const usePlace = create<Place>((set, get) => ({
  ...fromAddress(recentChats()[0]),
  recent: recentChats(),

  open(chatId, notebookId = null) {
    const recent = [chatId, ...get().recent.filter((other) => other !== chatId)].slice(0, MOST_RECENT);
    localStorage.setItem(RECENT, JSON.stringify(recent));
    history.replaceState(null, "", notebookId ? `#/${chatId}/${notebookId}` : `#/${chatId}`);
    set({ chatId, notebookId, recent });
  },
}));

addEventListener("hashchange", () => {
  const { chatId, notebookId } = fromAddress();
  usePlace.getState().open(chatId, notebookId);
});

/** Returns an id for a chat that nobody has. */
export function newChatId(): string {
  return `page-${crypto.getRandomValues(new Uint32Array(2)).reduce((id, part) => id + part.toString(36), "")}`;
}

export function isChatId(text: string): boolean {
  return /^[A-Za-z0-9._:-]{1,128}$/.test(text);
}

function fromAddress(latest?: string): { chatId: string; notebookId: string | null } {
  const [chatId, notebookId] = location.hash.replace(/^#\/?/, "").split("/");
  const known = chatId && isChatId(chatId) ? chatId : (latest ?? newChatId());
  return { chatId: known, notebookId: notebookId && /^[0-9A-Z]{26}$/.test(notebookId) ? notebookId : null };
}

function recentChats(): string[] {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(RECENT) ?? "[]");
    return Array.isArray(kept) ? kept.filter((id): id is string => typeof id === "string" && isChatId(id)) : [];
  } catch {
    return [];
  }
}
