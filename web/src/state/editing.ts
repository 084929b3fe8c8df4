// Cells are edited here: saved as one types, put in, moved, taken out. An edit names what it was made of: `If-Match`.
import { api, found, Refused, told } from "../api/client";
import type { CellSchema } from "../api/schema";
import { type Cell, isDirty } from "./cells";
import { cellOf, change, heardOf, path, useNotebook } from "./notebook";
import { attempt, useNotices } from "./notices";

const PAUSE_MS = 600;
const RETRY_MS = 4_000;

const timers = new Map<string, ReturnType<typeof setTimeout>>();
const saves = new Map<string, Promise<void>>();

/** Takes what the editor says, and saves it once typing pauses. */
export function type(cellId: string, draft: string): void {
  change(cellId, (cell) => ({ ...cell, draft }));
  clearTimeout(timers.get(cellId));
  saveIn(cellId, PAUSE_MS);
}

function saveIn(cellId: string, ms: number): void {
  const timer = setTimeout(() => void attempt(() => save(cellId)), ms);
  timers.set(cellId, timer);
}

/** Resolves when what the editor says is saved; one request at a time, so that none overtakes another. */
export function save(cellId: string): Promise<void> {
  clearTimeout(timers.get(cellId));
  return inTurn(cellId, () => saveNow(cellId));
}

function inTurn(cellId: string, action: () => Promise<void>): Promise<void> {
  const after = (saves.get(cellId) ?? Promise.resolve()).catch(() => undefined).then(action);
  saves.set(cellId, after);
  return after;
}

async function saveNow(cellId: string, kind?: CellSchema["type"]): Promise<void> {
  const cell = cellOf(cellId);
  const isChanged = cell && (isDirty(cell) || (kind && kind !== cell.type));
  if (!isChanged || cell.theirs) return;
  await put(cell, cell.draft, cell.etag, kind);
}

async function put(cell: Cell, source: string, etag: string, kind?: CellSchema["type"]): Promise<void> {
  const { cellId } = cell;
  change(cellId, (each) => ({ ...each, sending: source }));
  try {
    const params = { path: path(cellId), header: { "If-Match": etag } };
    const body = { source, ...(kind ? { type: kind } : {}) };
    heardOf(await told(api.PUT("/api/chats/{chatId}/notebooks/{notebookId}/cells/{cellId}", { params, body })));
    change(cellId, (each) => ({ ...each, isStuck: false }));
  } catch (error) {
    if (error instanceof Refused && (error.status === 0 || error.status === 429 || error.status >= 500)) {
      change(cellId, (each) => ({ ...each, isStuck: true }));
      saveIn(cellId, RETRY_MS);
    }
    if (!(error instanceof Refused && error.status === 412)) throw error;
    await clashed(cellId, kind);
  } finally {
    change(cellId, (each) => ({ ...each, sending: null }));
  }
}

/** Somebody was faster: what they have made of the cell is shown beside what is here. */
async function clashed(cellId: string, kind?: CellSchema["type"]): Promise<void> {
  const params = { path: path(cellId) };
  const theirs = await found(api.GET("/api/chats/{chatId}/notebooks/{notebookId}/cells/{cellId}", { params }));
  if (!theirs) throw new Error("somebody has deleted this cell; what you typed is not saved");
  heardOf(theirs);
  if (cellOf(cellId)?.etag === theirs.etag) await saveNow(cellId, kind); // they have changed none of its text
}

/** Settles a conflict: what is here stands in the place of theirs. */
export async function keepMine(cellId: string): Promise<void> {
  const cell = cellOf(cellId);
  if (!cell?.theirs) return;
  const { etag, source } = cell.theirs;
  change(cellId, (each) => ({ ...each, theirs: null, etag, source }));
  await put(cell, cell.draft, etag);
}

/** Settles a conflict: theirs stands, and what is here is given up. */
export function takeTheirs(cellId: string): void {
  change(cellId, (cell) =>
    cell.theirs ? { ...cell, ...cell.theirs, draft: cell.theirs.source, theirs: null } : cell,
  );
}

/** Puts an empty cell behind this one, or in front of all; returns its id. */
export async function insert(
  after: string | null,
  kind: CellSchema["type"] = "code",
  source = "",
): Promise<string> {
  const { chatId, notebookId, cells } = useNotebook.getState();
  const body = { type: kind, source, ...(after === null ? { index: 0 } : { after }) };
  const params = { path: { chatId, notebookId } };
  const made = await told(api.POST("/api/chats/{chatId}/notebooks/{notebookId}/cells", { params, body }));
  heardOf(made);
  const others = cells.map((cell) => cell.cellId).filter((cellId) => cellId !== made.cellId);
  const place = after === null ? 0 : others.indexOf(after) + 1;
  const order = [...others.slice(0, place), made.cellId, ...others.slice(place)];
  useNotebook.setState((now) => ({
    cells: [...now.cells].sort((one, other) => order.indexOf(one.cellId) - order.indexOf(other.cellId)),
  }));
  return made.cellId;
}

/** Takes the cell out. What it said can be put back for a while. */
export async function remove(cellId: string): Promise<void> {
  const cell = cellOf(cellId);
  if (!cell) return;
  const params = { path: path(cellId), header: { "If-Match": "*" } };
  await told(api.DELETE("/api/chats/{chatId}/notebooks/{notebookId}/cells/{cellId}", { params }));
  const { cells } = useNotebook.getState();
  const before = cells[cells.findIndex((each) => each.cellId === cellId) - 1]?.cellId ?? null;
  useNotebook.setState({ cells: cells.filter((each) => each.cellId !== cellId) });
  if (cell.draft.trim() === "") return;
  const undo = () => attempt(() => insert(before && cellOf(before) ? before : null, cell.type, cell.draft));
  useNotices.getState().say("The cell is deleted.", "calm", { label: "Undo", act: () => void undo() });
}

/** Moves a cell one place up or down. */
export async function move(cellId: string, by: -1 | 1): Promise<void> {
  const { cells } = useNotebook.getState();
  const place = cells.findIndex((cell) => cell.cellId === cellId);
  const target = place + by;
  if (place < 0 || target < 0 || target >= cells.length) return;
  const order = cells.filter((cell) => cell.cellId !== cellId);
  const [cell] = cells.slice(place, place + 1);
  order.splice(target, 0, cell!);
  useNotebook.setState({ cells: order });
  const after = order[target - 1]?.cellId ?? null;
  const params = { path: path(cellId) };
  await told(
    api.POST("/api/chats/{chatId}/notebooks/{notebookId}/cells/{cellId}/move", { params, body: { after } }),
  );
}

export async function turnInto(cellId: string, kind: CellSchema["type"]): Promise<void> {
  clearTimeout(timers.get(cellId));
  await inTurn(cellId, () => saveNow(cellId, kind));
}
