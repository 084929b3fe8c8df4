// Cells as this page has them, and what becomes of them when something is told: pure, and tested as such.
import type { CellSchema, LastRun } from "../api/schema";
import { ofOutput, type Result, type Shown, withResults } from "../outputs/shown";

export type Cell = {
  cellId: string;
  type: CellSchema["type"];
  attachments: CellSchema["attachments"];
  /** What the service has of it, by this ETag. */
  source: string;
  etag: string;
  /** What the editor says. */
  draft: string;
  /** What is on its way to the service. */
  sending: string | null;
  /** It could not be saved, and will be tried again. */
  isStuck: boolean;
  /** What somebody else has made of it, while this page has something else that is not saved. */
  theirs: { source: string; etag: string } | null;
  executionCount: number | null;
  outputs: Shown[];
  lastRun: LastRun | null;
  /** It waits for cells before it, or its run is asked for and has not been told of. */
  waits: "queued" | "starting" | null;
};

export function isDirty(cell: Cell): boolean {
  return cell.draft !== cell.source;
}

export function isRunning(cell: Cell): boolean {
  return cell.lastRun?.state === "running";
}

/** Whether another run of it has to wait. */
export function isBusy(cell: Cell): boolean {
  return isRunning(cell) || cell.waits !== null;
}

/** Returns a cell as it is told, with nothing of this page's own yet. */
export function fresh(told: CellSchema): Cell {
  return {
    cellId: told.cellId,
    type: told.type,
    attachments: told.attachments,
    source: told.source,
    etag: told.etag,
    draft: told.source,
    sending: null,
    isStuck: false,
    theirs: null,
    executionCount: told.executionCount,
    outputs: shown(told),
    lastRun: told.lastRun,
    waits: null,
  };
}

/** Returns the cell with what is told of it: never at the cost of what is typed here and not saved. */
export function merged(cell: Cell, told: CellSchema): Cell {
  return withRun(withSource(cell, told), told);
}

function withSource(cell: Cell, told: CellSchema): Cell {
  if (version(told.etag) <= version(cell.etag)) return cell;
  const taken = { ...cell, type: told.type, attachments: told.attachments, source: told.source, etag: told.etag };
  if (told.source === cell.source) return { ...taken, theirs: null }; // its type has changed, and none of its text
  const isOwn = told.source === cell.draft || told.source === cell.sending;
  if (isOwn) return { ...taken, theirs: null };
  if (isDirty(cell)) return { ...cell, theirs: { source: told.source, etag: told.etag } };
  return { ...taken, draft: told.source, theirs: null };
}

function withRun(cell: Cell, told: CellSchema): Cell {
  const run = told.lastRun;
  const isSameRun = run?.executionId === cell.lastRun?.executionId;
  if (run?.state === "running") {
    if (isSameRun) return cell; // its outputs come one by one, or it has ended and this was told late
    return { ...cell, lastRun: run, outputs: [], waits: null, executionCount: null };
  }
  const { executionCount } = told;
  return { ...cell, lastRun: run, executionCount, outputs: told.outputs === null ? cell.outputs : shown(told) };
}

/** Returns the cell with live results behind what it shows; as it was if they are of another run. */
export function withLive(cell: Cell, executionId: string, results: Result[]): Cell {
  if (cell.lastRun?.executionId !== executionId || !isRunning(cell)) return cell;
  return { ...cell, outputs: withResults(cell.outputs, results) };
}

/** Returns the cells in this order. Those that it does not name keep their neighbour in front. */
export function ordered(cells: Cell[], order: string[]): Cell[] {
  const place = new Map(order.map((cellId, index) => [cellId, index]));
  let before = -1;
  return cells
    .map((cell, index) => {
      before = place.get(cell.cellId) ?? before;
      return { cell, place: before, index };
    })
    .sort((one, other) => one.place - other.place || one.index - other.index)
    .map(({ cell }) => cell);
}

function version(etag: string): number {
  return Number(etag.replaceAll('"', ""));
}

function shown(told: CellSchema): Shown[] {
  return (told.outputs ?? []).map(ofOutput).filter((each) => each !== null);
}
