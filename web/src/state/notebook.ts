// The open notebook: its cells, in step with the service and with whoever else edits it.
import { create } from "zustand";
import { api, Refused, sentence, told } from "../api/client";
import type { CellSchema, NotebookBrief, NotebookSchema, PlanSchema } from "../api/schema";
import { type Cell, fresh, merged, ordered, withLive } from "./cells";
import { follow, type Told } from "./following";
import { attempt, useNotices } from "./notices";

type Notebook = {
  chatId: string;
  notebookId: string;
  title: string;
  etag: string;
  plan: PlanSchema | null;
  cells: Cell[];
  /** All notebooks of the chat, the latest first. */
  shelf: NotebookBrief[];
  phase: "opening" | "open" | "failed";
  problem: string | null;
};

export const useNotebook = create<Notebook>(() => ({
  chatId: "",
  notebookId: "",
  title: "",
  etag: "",
  plan: null,
  cells: [],
  shelf: [],
  phase: "opening",
  problem: null,
}));

type Listener = (executionId: string) => void;
const ended = new Set<Listener>();

/** Calls this once for each run of the notebook that ends while the page is open. */
export function onEnd(listener: Listener): () => void {
  ended.add(listener);
  return () => ended.delete(listener);
}

let following = new AbortController();

/** Opens a chat's notebook: this one, else its latest, else a new one. Returns its id. */
export async function open(chatId: string, notebookId: string | null): Promise<string> {
  following.abort();
  useNotebook.setState({
    chatId,
    notebookId: notebookId ?? "",
    phase: "opening",
    problem: null,
    cells: [],
    plan: null,
  });
  try {
    const shelf = await list(chatId);
    const known = shelf.find((each) => each.notebookId === notebookId) ?? shelf[0];
    const notebook = known ? await read(chatId, known.notebookId) : await make(chatId, "Untitled");
    useNotebook.setState({ shelf: known ? shelf : [notebook] });
    begin(chatId, notebook);
    return notebook.notebookId;
  } catch (error) {
    useNotebook.setState({ phase: "failed", problem: sentence(error) });
    throw error;
  }
}

export async function make(chatId: string, title: string): Promise<NotebookSchema> {
  const body = { title, cells: [{ type: "code" as const, source: "" }] };
  return told(api.POST("/api/chats/{chatId}/notebooks", { params: { path: { chatId } }, body }));
}

export async function refreshShelf(): Promise<void> {
  const { chatId } = useNotebook.getState();
  useNotebook.setState({ shelf: await list(chatId) });
}

async function list(chatId: string): Promise<NotebookBrief[]> {
  const params = { path: { chatId }, query: { limit: 100 } };
  return (await told(api.GET("/api/chats/{chatId}/notebooks", { params }))).notebooks;
}

async function read(chatId: string, notebookId: string): Promise<NotebookSchema> {
  const params = { path: { chatId, notebookId } };
  return told(api.GET("/api/chats/{chatId}/notebooks/{notebookId}", { params }));
}

function begin(chatId: string, notebook: NotebookSchema): void {
  const { notebookId, title, etag, plan, cells, version } = notebook;
  useNotebook.setState({ chatId, notebookId, title, etag, plan, cells: cells.map(fresh), phase: "open" });
  cells.filter((cell) => cell.outputs === null).forEach((cell) => void attempt(() => reread(cell.cellId)));
  following = new AbortController();
  const path = `/api/chats/${encodeURIComponent(chatId)}/notebooks/${notebookId}`;
  const { signal } = following;
  follow(path, version, signal, hear).catch((error) => useNotices.getState().say(sentence(error), "bad"));
}

// ── What is told ───────────────────────────────────────────────────────────────────────────────────

function hear(told: Told): void {
  if (told.name === "cell.output") {
    const { cellId, executionId, results } = told.data;
    change(cellId, (cell) => withLive(cell, executionId, results ?? []));
    return;
  }
  if (told.name === "notebook.deleted") {
    useNotebook.setState({ phase: "failed", problem: "Somebody has deleted this notebook." });
    return;
  }
  const { title, etag, plan, cells: order } = told.data;
  if (told.name === "reset" || told.name === "notebook.cleared" || told.name === "notebook.updated")
    void attempt(reload);
  else if (told.name === "cell.deleted") {
    const gone = told.data.cellId;
    useNotebook.setState(({ cells }) => ({ cells: cells.filter((cell) => cell.cellId !== gone) }));
  }
  if (told.name !== "reset" && told.data.cell) heardOf(told.data.cell);
  if (typeof title === "string" && typeof etag === "string")
    useNotebook.setState({ title, etag, plan: plan ?? null });
  if (order) reorder(order.map(({ cellId }) => cellId));
}

/** Takes what is told of a cell, which may be a new one. */
export function heardOf(told: CellSchema): void {
  const before = useNotebook.getState().cells.find((cell) => cell.cellId === told.cellId);
  useNotebook.setState(({ cells }) => ({
    cells: before
      ? cells.map((cell) => (cell === before || cell.cellId === told.cellId ? merged(cell, told) : cell))
      : [...cells, fresh(told)],
  }));
  const run = told.lastRun;
  const wasOpen = before?.lastRun?.executionId !== run?.executionId || before?.lastRun?.state === "running";
  if (run?.state === "ended" && before && wasOpen) for (const listener of ended) listener(run.executionId);
  if (told.outputs === null) void attempt(() => reread(told.cellId));
}

function reorder(order: string[]): void {
  useNotebook.setState(({ cells }) => ({ cells: ordered(cells, order) }));
}

/** Reads all of it again, and keeps what is typed here and not saved. */
export async function reload(): Promise<void> {
  const { chatId, notebookId } = useNotebook.getState();
  const notebook = await read(chatId, notebookId);
  const { title, etag, plan } = notebook;
  useNotebook.setState(({ cells }) => ({
    title,
    etag,
    plan,
    cells: notebook.cells.map((each) => {
      const known = cells.find((cell) => cell.cellId === each.cellId);
      return known ? merged(known, each) : fresh(each);
    }),
  }));
}

export async function reread(cellId: string): Promise<CellSchema> {
  const cell = await told(
    api.GET("/api/chats/{chatId}/notebooks/{notebookId}/cells/{cellId}", { params: { path: path(cellId) } }),
  );
  if (cell.outputs !== null) heardOf(cell);
  return cell;
}

// ── What is changed here ───────────────────────────────────────────────────────────────────────────

export function path(cellId: string): { chatId: string; notebookId: string; cellId: string } {
  const { chatId, notebookId } = useNotebook.getState();
  return { chatId, notebookId, cellId };
}

export function cellOf(cellId: string): Cell | undefined {
  return useNotebook.getState().cells.find((cell) => cell.cellId === cellId);
}

export function change(cellId: string, how: (cell: Cell) => Cell): void {
  useNotebook.setState(({ cells }) => ({
    cells: cells.map((cell) => (cell.cellId === cellId ? how(cell) : cell)),
  }));
}

/** Gives the notebook this title. */
export async function rename(title: string): Promise<void> {
  const { chatId, notebookId, cells, etag } = useNotebook.getState();
  if (cells.some((cell) => cell.theirs)) throw new Error("settle the conflict first, then rename the notebook");
  const body = { title, cells: cells.map(({ cellId, type, source }) => ({ cellId, type, source })) };
  const params = { path: { chatId, notebookId }, header: { "If-Match": etag } };
  try {
    const renamed = await told(api.PUT("/api/chats/{chatId}/notebooks/{notebookId}", { params, body }));
    useNotebook.setState({ title: renamed.title, etag: renamed.etag });
    for (const cell of renamed.cells) heardOf(cell);
    await refreshShelf();
  } catch (error) {
    await reload();
    if (!(error instanceof Refused && error.status === 412)) throw error;
    throw new Error("the notebook has changed meanwhile; it is not renamed: try it again");
  }
}

/** Deletes the open notebook. What its cells have run stays in the chat's history. */
export async function discard(): Promise<void> {
  const { chatId, notebookId } = useNotebook.getState();
  following.abort();
  const params = { path: { chatId, notebookId }, header: { "If-Match": "*" } };
  await told(api.DELETE("/api/chats/{chatId}/notebooks/{notebookId}", { params }));
  useNotebook.setState({ phase: "opening", notebookId: "" });
}

/** Takes away what all cells show. */
export async function clear(): Promise<void> {
  const { chatId, notebookId } = useNotebook.getState();
  await told(
    api.POST("/api/chats/{chatId}/notebooks/{notebookId}/clear", { params: { path: { chatId, notebookId } } }),
  );
  await reload();
}
