import type { Cell } from "../state/cells";
import { keepMine, takeTheirs } from "../state/editing";
import { attempt } from "../state/notices";

/** Both versions of a cell that two have edited, and what to do about it. */
export function Conflict({ cell }: { cell: Cell }) {
  if (!cell.theirs) return null;
  return (
    <div className="conflict" role="alert">
      <p>
        <strong>This cell was changed elsewhere while you were writing.</strong> Nothing is overwritten until you
        choose; you can go on writing meanwhile.
      </p>
      <div className="versions">
        <figure>
          <figcaption>Yours, not saved</figcaption>
          <pre>{cell.draft || " "}</pre>
          <button type="button" onClick={() => void attempt(() => keepMine(cell.cellId))}>
            Keep mine
          </button>
        </figure>
        <figure>
          <figcaption>Theirs, saved</figcaption>
          <pre>{cell.theirs.source || " "}</pre>
          <button type="button" onClick={() => takeTheirs(cell.cellId)}>
            Take theirs
          </button>
        </figure>
      </div>
    </div>
  );
}
