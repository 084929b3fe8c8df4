import { memo, useState } from "react";
import { flushSync } from "react-dom";
import { Icon } from "../Icon";
import { Markdown } from "../outputs/Markdown";
import { Outputs } from "../outputs/Outputs";
import { type Cell, isBusy, isRunning } from "../state/cells";
import { insert, move, save, turnInto, type } from "../state/editing";
import { attempt } from "../state/notices";
import { run, stop } from "../state/running";
import { Conflict } from "./Conflict";
import { Editor, type EditorKeys, focusEditor } from "./Editor";
import { focusCell, focusSoon, neighbour, onCellKey, removeAndGoOn, runAndGoOn } from "./keys";

type Props = { cell: Cell; number: number };

/** A cell: what it says, and what it shows. */
export const CellView = memo(function CellView({ cell, number }: Props) {
  const { cellId } = cell;
  const isCode = cell.type === "code";
  const [isWriting, setWriting] = useState(false);
  const hasEditor = isCode || isWriting || cell.draft.trim() === "";

  const edit = () => {
    flushSync(() => setWriting(true)); // so that the very next key is written
    focusEditor(cellId);
  };
  const done = () => {
    setWriting(false);
    void attempt(() => save(cellId));
  };
  const keys: EditorKeys = {
    run: () => {
      done();
      runAndGoOn(cellId);
    },
    runAndStay: () => {
      done();
      void run(cellId);
      if (!isCode) focusCell(cellId);
    },
    runAndInsert: () => {
      done();
      void run(cellId);
      void attempt(async () => focusSoon(await insert(cellId)));
    },
    save: () => void attempt(() => save(cellId)),
    leave: () => {
      done();
      focusCell(cellId);
    },
    above: () => go(neighbour(cellId, -1), "end"),
    below: () => go(neighbour(cellId, 1), "start"),
  };

  return (
    // biome-ignore lint/a11y/useSemanticElements: a cell is no fieldset
    <div
      id={`cell-${cellId}`}
      role="group"
      className={`cell ${cell.type}${isRunning(cell) ? " running" : ""}${cell.theirs ? " clash" : ""}`}
      aria-label={`${isCode ? "Code" : "Text"} cell ${number}`}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: keys act on the cell that has the focus, as in notebooks
      tabIndex={0}
      onKeyDown={(event) => onCellKey(event, cellId, edit)}
    >
      <Gutter cell={cell} number={number} />
      <div className="body">
        {hasEditor ? (
          <Editor
            cellId={cellId}
            value={cell.draft}
            language={isCode ? "python" : "markdown"}
            label={`${isCode ? "Code" : "Text"} of cell ${number}`}
            keys={keys}
            onChange={(text) => type(cellId, text)}
          />
        ) : (
          // biome-ignore lint/a11y/noStaticElementInteractions: Enter on the cell, and its button, do the same
          <div className="prose" onDoubleClick={edit}>
            <Markdown text={cell.draft} attachments={cell.attachments} />
          </div>
        )}
        {cell.theirs && <Conflict cell={cell} />}
        {isCode && (
          <Outputs outputs={cell.outputs} isStale={cell.waits !== null} label={`Output of cell ${number}`} />
        )}
      </div>
      <Tools cell={cell} number={number} onEdit={hasEditor ? null : edit} />
    </div>
  );
});

function go(cellId: string | undefined, where: "start" | "end"): void {
  if (cellId && !focusEditor(cellId, where)) focusCell(cellId);
}

/** Runs or stops the cell, and tells how its last run went. */
function Gutter({ cell, number }: Props) {
  if (cell.type !== "code") return <div className="gutter" />;
  const { waits, lastRun, executionCount } = cell;
  const isActive = isBusy(cell);
  const ms = lastRun?.endedAt ? Date.parse(lastRun.endedAt) - Date.parse(lastRun.beganAt) : null;
  const isStale = lastRun !== null && !isActive && !lastRun.isCurrent;
  return (
    <div className="gutter">
      {isActive ? (
        <button
          type="button"
          className="round busy"
          aria-label={`Stop cell ${number}`}
          onClick={() => void attempt(stop)}
        >
          <Icon name="stop" />
        </button>
      ) : (
        <button
          type="button"
          className="round"
          aria-label={`Run cell ${number}`}
          title="Run (Shift + Enter)"
          onClick={() => void run(cell.cellId)}
        >
          <Icon name="play" />
        </button>
      )}
      <span className={`count${lastRun?.success === false && !isActive ? " bad" : ""}`}>
        {waits === "queued"
          ? "queued"
          : isActive
            ? "running"
            : executionCount === null
              ? ""
              : `[${executionCount}]`}
      </span>
      {!isActive && ms !== null && <span className="took">{took(ms)}</span>}
      {isStale && <span className="took">edited</span>}
    </div>
  );
}

function took(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : ms < 60_000 ? `${(ms / 1_000).toFixed(1)} s` : `${(ms / 60_000).toFixed(1)} min`;
}

/** What is done to a cell besides running it. */
function Tools({ cell, number, onEdit }: Props & { onEdit: (() => void) | null }) {
  const { cellId } = cell;
  const isCode = cell.type === "code";
  const act = (action: () => Promise<unknown>) => () => void attempt(action);
  return (
    <div className="tools">
      {onEdit && (
        <button
          type="button"
          className="quiet"
          aria-label={`Edit cell ${number}`}
          title="Edit (Enter)"
          onClick={onEdit}
        >
          <Icon name="pencil" />
        </button>
      )}
      <button
        type="button"
        className="quiet kind"
        aria-label={`Make cell ${number} ${isCode ? "text" : "code"}`}
        title={isCode ? "Make it text (M)" : "Make it code (Y)"}
        onClick={act(() => turnInto(cellId, isCode ? "markdown" : "code"))}
      >
        {isCode ? "Aa" : "</>"}
      </button>
      <button
        type="button"
        className="quiet"
        aria-label={`Move cell ${number} up`}
        onClick={act(() => move(cellId, -1))}
      >
        <Icon name="up" />
      </button>
      <button
        type="button"
        className="quiet"
        aria-label={`Move cell ${number} down`}
        onClick={act(() => move(cellId, 1))}
      >
        <Icon name="down" />
      </button>
      <button
        type="button"
        className="quiet"
        aria-label={`Delete cell ${number}`}
        title="Delete (D D)"
        onClick={act(() => removeAndGoOn(cellId))}
      >
        <Icon name="trash" />
      </button>
    </div>
  );
}
