import { useEffect, useRef, useState } from "react";
import { Icon } from "./Icon";
import { Lamp } from "./rail/Session";
import { isBusy, isDirty } from "./state/cells";
import { exportFile, importFile } from "./state/exchange";
import { clear, discard, rename, useNotebook } from "./state/notebook";
import { attempt } from "./state/notices";
import { usePlace } from "./state/place";
import { restartAndRunAll, runAll, stop } from "./state/running";
import { useTheme } from "./state/theme";

type Props = { isRailOpen: boolean; onRail: () => void; onHelp: () => void };

/** The notebook's title, and what is done to all of it. */
export function Header({ isRailOpen, onRail, onHelp }: Props) {
  const { isDark, toggle } = useTheme();
  const isActive = useNotebook(({ cells, plan }) => plan !== null || cells.some(isBusy));
  return (
    <header className="top">
      <button
        type="button"
        className="quiet rail-button"
        aria-expanded={isRailOpen}
        aria-controls="rail"
        onClick={onRail}
      >
        <Icon name="menu" />
        <span className="hidden">Files and session: </span>
        <Lamp />
      </button>
      <span className="brand">
        <Icon name="hourglass" /> <span>Sandkeeper</span>
      </span>
      <Title />
      <Saved />
      <div className="actions">
        {isActive ? (
          <button type="button" className="primary" onClick={() => void attempt(stop)}>
            <Icon name="stop" /> <span>Stop</span>
          </button>
        ) : (
          <button type="button" className="primary" onClick={() => void attempt(runAll)}>
            <Icon name="all" /> <span>Run all</span>
          </button>
        )}
        <More onHelp={onHelp} />
        <button
          type="button"
          className="quiet"
          aria-label={isDark ? "Light colours" : "Dark colours"}
          onClick={toggle}
        >
          <Icon name={isDark ? "sun" : "moon"} />
        </button>
      </div>
    </header>
  );
}

function Title() {
  const title = useNotebook((state) => state.title);
  const [draft, setDraft] = useState(title);
  useEffect(() => {
    setDraft(title);
    document.title = title ? `${title} · Sandkeeper` : "Sandkeeper";
  }, [title]);
  const commit = () => {
    const wanted = draft.trim();
    if (wanted && wanted !== title) void attempt(() => rename(wanted));
    else setDraft(title);
  };
  return (
    <h1 className="title">
      <input
        aria-label="Title of the notebook"
        value={draft}
        maxLength={200}
        onChange={(event) => setDraft(event.target.value)}
        onBlur={commit}
        onKeyDown={(event) => {
          if (event.key === "Enter") event.currentTarget.blur();
          if (event.key === "Escape") setDraft(title);
        }}
      />
    </h1>
  );
}

function Saved() {
  const hasConflict = useNotebook(({ cells }) => cells.some((cell) => cell.theirs));
  const isStuck = useNotebook(({ cells }) => cells.some((cell) => cell.isStuck));
  const isUnsaved = useNotebook(({ cells }) => cells.some((cell) => isDirty(cell) || cell.sending !== null));
  const text = hasConflict ? "Conflict" : isStuck ? "Not saved" : isUnsaved ? "Saving …" : "Saved";
  return <span className={`saved${hasConflict || isStuck ? " bad" : ""}`}>{text}</span>;
}

async function askAndDiscard(): Promise<void> {
  const { title, chatId } = useNotebook.getState();
  if (!confirm(`Delete the notebook “${title}” for good?`)) return;
  await discard();
  usePlace.getState().open(chatId);
}

/** What is done seldom: a menu that opens and closes by itself, as `details` do. */
function More({ onHelp }: { onHelp: () => void }) {
  const menu = useRef<HTMLDetailsElement>(null);
  const chosen = useRef<HTMLInputElement>(null);
  const done = (action: () => unknown) => () => {
    if (menu.current) menu.current.open = false;
    void attempt(async () => action());
  };
  useEffect(() => {
    const leave = (event: Event) => {
      const isOutside = !menu.current?.contains(event.target as Node);
      const isEscape = event instanceof KeyboardEvent && event.key === "Escape";
      if (menu.current && (isEscape || (event.type === "pointerdown" && isOutside))) menu.current.open = false;
    };
    document.addEventListener("pointerdown", leave);
    document.addEventListener("keydown", leave);
    return () => {
      document.removeEventListener("pointerdown", leave);
      document.removeEventListener("keydown", leave);
    };
  }, []);
  return (
    <details className="more" ref={menu}>
      <summary>More</summary>
      <div className="menu">
        <button type="button" onClick={done(restartAndRunAll)}>
          <Icon name="restart" /> Restart and run all
        </button>
        <button type="button" onClick={done(clear)}>
          <Icon name="clear" /> Clear all outputs
        </button>
        <button type="button" onClick={done(() => chosen.current?.click())}>
          <Icon name="upload" /> Import .ipynb
        </button>
        <button type="button" onClick={done(exportFile)}>
          <Icon name="download" /> Export .ipynb
        </button>
        <button type="button" onClick={done(askAndDiscard)}>
          <Icon name="trash" /> Delete notebook
        </button>
        <button type="button" onClick={done(onHelp)}>
          <Icon name="keyboard" /> Keys
        </button>
      </div>
      <input
        ref={chosen}
        type="file"
        accept=".ipynb"
        hidden
        aria-label="Notebook to import"
        onChange={(event) => {
          const [file] = event.target.files ?? [];
          if (file) void attempt(() => importFile(file));
          event.target.value = "";
        }}
      />
    </details>
  );
}
