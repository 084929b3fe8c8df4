import { Icon } from "../Icon";
import { insert } from "../state/editing";
import { useNotebook } from "../state/notebook";
import { attempt } from "../state/notices";
import { CellView } from "./CellView";
import { focusSoon } from "./keys";
import { Loss } from "./Loss";

/** The cells. */
export function Notebook({ onHelp }: { onHelp: () => void }) {
  const { cells, phase, problem } = useNotebook();
  if (phase !== "open") {
    return (
      <main id="cells" className="cells" tabIndex={-1}>
        <p className={phase === "failed" ? "bad" : "soft"}>{problem ?? "Opening the notebook …"}</p>
      </main>
    );
  }
  const last = cells.at(-1)?.cellId ?? null;
  const add = (kind: "code" | "markdown") => () => void attempt(async () => focusSoon(await insert(last, kind)));
  return (
    <main id="cells" className="cells" tabIndex={-1}>
      <Loss />
      {cells.map((cell, index) => (
        <CellView key={cell.cellId} cell={cell} number={index + 1} />
      ))}
      <div className="add">
        <button type="button" onClick={add("code")}>
          <Icon name="plus" /> Code
        </button>
        <button type="button" onClick={add("markdown")}>
          <Icon name="plus" /> Text
        </button>
        <button type="button" className="quiet" onClick={onHelp}>
          <Icon name="keyboard" /> Keys
        </button>
      </div>
    </main>
  );
}
