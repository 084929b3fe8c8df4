// What the keys do on a cell that has the focus itself, as in other notebooks.
import type { KeyboardEvent } from "react";
import { insert, move, remove, turnInto } from "../state/editing";
import { useNotebook } from "../state/notebook";
import { attempt } from "../state/notices";
import { run, stop } from "../state/running";
import { focusEditor } from "./Editor";

const TWICE_WITHIN_MS = 700;
let before = { key: "", at: 0 };

/** Gives the focus to a cell. */
export function focusCell(cellId: string | undefined): void {
  const cell = cellId && document.getElementById(`cell-${cellId}`);
  if (!cell) return;
  cell.focus();
  cell.scrollIntoView({ block: "nearest" });
}

export function neighbour(cellId: string, by: -1 | 1): string | undefined {
  const { cells } = useNotebook.getState();
  return cells[cells.findIndex((cell) => cell.cellId === cellId) + by]?.cellId;
}

/** Runs the cell, and goes on to the next one, which is made if there is none. */
export function runAndGoOn(cellId: string): void {
  void run(cellId);
  const next = neighbour(cellId, 1);
  if (next) focusCell(next);
  else void attempt(async () => focusSoon(await insert(cellId)));
}

/** Puts the caret into a cell that has just been made. */
export function focusSoon(cellId: string): void {
  requestAnimationFrame(() => focusEditor(cellId) || focusCell(cellId));
}

export function onCellKey(event: KeyboardEvent, cellId: string, edit: () => void): void {
  if (event.target !== event.currentTarget) return;
  const action = actionOf(event, cellId, edit);
  if (!action) return;
  event.preventDefault();
  void attempt(async () => action());
}

function actionOf(event: KeyboardEvent, cellId: string, edit: () => void): (() => unknown) | null {
  const { key, shiftKey, altKey, ctrlKey, metaKey } = event;
  if (key === "Enter") {
    if (shiftKey) return () => runAndGoOn(cellId);
    if (ctrlKey || metaKey) return () => run(cellId);
    return edit;
  }
  if (ctrlKey || metaKey) return null;
  if (altKey) {
    const by = key === "ArrowUp" ? -1 : key === "ArrowDown" ? 1 : null;
    return by && (() => move(cellId, by).then(() => focusCell(cellId)));
  }
  switch (key) {
    case "ArrowUp":
    case "k":
      return () => focusCell(neighbour(cellId, -1));
    case "ArrowDown":
    case "j":
      return () => focusCell(neighbour(cellId, 1));
    case "a":
      return async () => focusSoon(await insert(neighbour(cellId, -1) ?? null));
    case "b":
      return async () => focusSoon(await insert(cellId));
    case "m":
      return () => turnInto(cellId, "markdown");
    case "y":
      return () => turnInto(cellId, "code");
    case "d":
      return twice(key) ? () => removeAndGoOn(cellId) : () => undefined;
    case "i":
      return twice(key) ? stop : () => undefined;
    default:
      return null;
  }
}

export async function removeAndGoOn(cellId: string): Promise<void> {
  const next = neighbour(cellId, 1) ?? neighbour(cellId, -1);
  await remove(cellId);
  focusCell(next);
}

function twice(key: string): boolean {
  const now = Date.now();
  const isSecond = before.key === key && now - before.at < TWICE_WITHIN_MS;
  before = isSecond ? { key: "", at: 0 } : { key, at: now };
  return isSecond;
}
