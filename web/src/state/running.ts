// Cells are run here: one after another, as they are asked for; or all of them, as the service does it.
import { api, Refused, told } from "../api/client";
import { isBusy, isRunning } from "./cells";
import { save } from "./editing";
import { useFiles } from "./files";
import { cellOf, change, heardOf, onEnd, path, reload, useNotebook } from "./notebook";
import { attempt, useNotices } from "./notices";
import { useSession } from "./session";

/** For each cell. The API's own limit is a minute unless a call asks for more, and a notebook's cells may take long. */
const LIMIT_MS = 600_000;

let last: Promise<void> = Promise.resolve();
let round = 0;

/** Runs the cell once those before it have ended. */
export function run(cellId: string): Promise<void> {
  const cell = cellOf(cellId);
  if (cell?.type !== "code" || isBusy(cell) || cell.draft.trim() === "") return Promise.resolve();
  change(cellId, (each) => ({ ...each, waits: "queued" }));
  const asked = round;
  last = last.then(() => attempt(() => runNow(cellId, asked)));
  return last;
}

async function runNow(cellId: string, asked: number): Promise<void> {
  try {
    if (asked !== round) return; // it was stopped, or a cell before it failed
    change(cellId, (cell) => ({ ...cell, waits: "starting" }));
    await save(cellId);
    const cell = cellOf(cellId);
    if (!cell) return;
    if (cell.theirs) throw new Error("settle the conflict in this cell first, then run it");
    await send(cellId, cell.etag);
    if (cellOf(cellId)?.lastRun?.success === false) round += 1;
  } finally {
    change(cellId, (cell) => ({ ...cell, waits: null }));
  }
}

async function send(cellId: string, etag: string): Promise<void> {
  const params = { path: path(cellId), header: { "If-Match": etag, "Idempotency-Key": crypto.randomUUID() } };
  const body = { timeoutMs: LIMIT_MS };
  try {
    const reply = await told(
      api.POST("/api/chats/{chatId}/notebooks/{notebookId}/cells/{cellId}/run", { params, body }),
    );
    if ("cell" in reply) heardOf(reply.cell);
    else await endOf(cellId, (reply as { executionId: string }).executionId);
  } catch (error) {
    if (!(error instanceof Refused && error.status === 412)) throw error;
    await reload();
    throw new Error("somebody has changed this cell meanwhile: it was not run");
  }
}

/** Resolves when the events have told of the run's end. */
function endOf(cellId: string, executionId: string): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      const cell = cellOf(cellId);
      const isOver = !cell || (cell.lastRun?.executionId === executionId && !isRunning(cell));
      if (isOver) {
        stop();
        resolve();
      }
    };
    const stop = useNotebook.subscribe(look);
    look();
  });
}

/** Has the service run all code cells, up to the first that fails. */
export async function runAll(): Promise<void> {
  const { chatId, notebookId, cells } = useNotebook.getState();
  useSession.getState().accept();
  await Promise.all(cells.map((cell) => save(cell.cellId)));
  if (useNotebook.getState().cells.some((cell) => cell.theirs)) throw new Error("settle the conflict first");
  const params = { path: { chatId, notebookId } };
  const body = { timeoutMs: LIMIT_MS, mode: "async" as const };
  const reply = await told(api.POST("/api/chats/{chatId}/notebooks/{notebookId}/run", { params, body }));
  useNotebook.setState({ plan: reply.plan });
}

/** Stops the code that runs, and begins no other. Variables stay. */
export async function stop(): Promise<void> {
  const { chatId, notebookId } = useNotebook.getState();
  round += 1;
  const notebook = await told(
    api.POST("/api/chats/{chatId}/notebooks/{notebookId}/stop", { params: { path: { chatId, notebookId } } }),
  );
  useNotebook.setState({ plan: notebook.plan });
  for (const cell of notebook.cells) heardOf(cell);
}

/** Begins anew: a fresh kernel, and all cells. */
export async function restartAndRunAll(): Promise<void> {
  await useSession.getState().restart();
  await runAll();
}

/** Learns what else came of each run: what became of the session, and which files it has made. */
export function learnFromEnds(): () => void {
  return onEnd((executionId) => {
    announce(executionId);
    void learn(executionId).catch((error) => useNotices.getState().say(String(error), "bad"));
  });
}

/** Says to whoever listens how the run went. */
function announce(executionId: string): void {
  const { cells } = useNotebook.getState();
  const number = cells.findIndex(({ lastRun }) => lastRun?.executionId === executionId) + 1;
  if (!number) return;
  const how = cells[number - 1]?.lastRun?.success === false ? "has failed" : "has run";
  useNotices.setState({ whisper: `Cell ${number} ${how}.` });
}

async function learn(executionId: string): Promise<void> {
  const { chatId } = useNotebook.getState();
  const params = { path: { chatId, executionId } };
  const { result } = await told(api.GET("/api/chats/{chatId}/executions/{executionId}", { params }));
  if (!result || useNotebook.getState().chatId !== chatId) return;
  useSession.getState().heard(result.session, result.errorDetail?.kind ?? null);
  await useSession.getState().refresh();
  if (result.artifacts.length) await useFiles.getState().refreshArtifacts();
}
