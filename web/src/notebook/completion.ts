// What the chat's kernel knows of the code that is being written: columns, attributes, keys, paths.
import {
  acceptCompletion,
  type Completion,
  type CompletionContext,
  type CompletionResult,
  startCompletion,
} from "@codemirror/autocomplete";
import type { EditorView } from "@codemirror/view";
import { api, told } from "../api/client";
import type { CompleteReply } from "../api/schema";
import { useSession } from "../state/session";

/** A kernel that could not be asked is left alone for so long. */
const QUIET_MS = 5_000;
/** The API tells no more than this many. */
const MOST = 200;

/** Where it is worth asking without being told to: in a name, behind a dot, in a key, in a path, at an import. */
const TELLING = [
  /[\w\])"']\.\w*$/,
  /(^|[^\w.])[A-Za-z_]\w+$/,
  /\[\s*["'][^"']*$/,
  /["'][^"'\s]*\/[^"']*$/,
  /^\s*(from\s+[\w.]*|(from\s+[\w.]+\s+)?import\s+[\w., ]*)$/,
];

let quietUntil = 0;

/** Returns what could stand at the cursor, null where that is not known. Only a kernel that is awake is asked. */
export async function fromKernel(context: CompletionContext): Promise<CompletionResult | null> {
  const code = context.state.doc.toString();
  const line = context.state.doc.lineAt(context.pos);
  const { chatId, live } = useSession.getState();
  const isAwake = live?.state === "idle" || live?.state === "running";
  if (!isAwake || (!context.explicit && !isTelling(line.text.slice(0, context.pos - line.from)))) return null;
  if (!context.explicit && Date.now() < quietUntil) return null;
  const aborting = new AbortController();
  context.addEventListener("abort", () => aborting.abort());
  const body = { code, cursor: [...code.slice(0, context.pos)].length };
  try {
    const reply = await told(
      api.POST("/api/chats/{chatId}/session/complete", {
        params: { path: { chatId } },
        body,
        signal: aborting.signal,
      }),
    );
    if (!reply.available) quietUntil = Date.now() + QUIET_MS;
    return placed(reply, code);
  } catch {
    quietUntil = Date.now() + QUIET_MS; // whoever writes is not bothered with that
    return null;
  }
}

/** Behind code, Tab completes it; elsewhere it is free for what it does else. */
export function completeByTab(view: EditorView): boolean {
  const { empty, head } = view.state.selection.main;
  if (acceptCompletion(view)) return true;
  return empty && /[\w.'"/[]/.test(view.state.sliceDoc(head - 1, head)) && startCompletion(view);
}

export function isTelling(before: string): boolean {
  return TELLING.some((pattern) => pattern.test(before));
}

/** Returns the reply as the editor takes it, which counts in halves of UTF-16. */
export function placed(reply: CompleteReply, code: string): CompletionResult | null {
  if (!reply.matches.length) return null;
  const characters = [...code];
  const from = characters.slice(0, reply.start).join("").length;
  const to = characters.slice(0, reply.end).join("").length;
  // An attribute comes with its dot, which stays where it is.
  const dot = reply.matches.every((match) => match.text.startsWith(".")) ? 1 : 0;
  const options = reply.matches.map((match): Completion => ({ label: match.text.slice(dot) }));
  const isName = reply.matches.every((match) => /^\.?\w+$/.test(match.text));
  const validFor = isName ? /^\w*$/ : /^[^"'\]]*$/;
  return { from: from + dot, to, options, ...(reply.matches.length < MOST ? { validFor } : {}) };
}
