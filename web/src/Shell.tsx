import { type DragEvent, useEffect, useState } from "react";
import { Header } from "./Header";
import { Help } from "./Help";
import { Notices } from "./Notices";
import { Notebook } from "./notebook/Notebook";
import { Rail } from "./rail/Rail";
import { isDirty } from "./state/cells";
import { importFile } from "./state/exchange";
import { useFiles } from "./state/files";
import { open, useNotebook } from "./state/notebook";
import { attempt } from "./state/notices";
import { usePlace } from "./state/place";
import { learnFromEnds } from "./state/running";
import { useSession } from "./state/session";

const LOOK_EVERY_MS = 10_000;

/** The page of somebody who is connected. */
export function Shell() {
  const { chatId, notebookId } = usePlace();
  const [isRailOpen, setRailOpen] = useState(false);
  const [isHelpOpen, setHelpOpen] = useState(false);
  const [isDropping, setDropping] = useState(false);

  useEffect(() => {
    useSession.getState().open(chatId);
    useFiles.getState().open(chatId);
  }, [chatId]);

  useEffect(() => {
    const shown = useNotebook.getState();
    if (shown.phase === "open" && shown.chatId === chatId && shown.notebookId === notebookId) return;
    void attempt(async () => {
      const opened = await open(chatId, notebookId);
      if (opened !== notebookId) usePlace.getState().open(chatId, opened);
    });
  }, [chatId, notebookId]);

  useEffect(learnFromEnds, []);

  useEffect(() => {
    const warn = (event: BeforeUnloadEvent) => {
      if (useNotebook.getState().cells.some(isDirty)) event.preventDefault();
    };
    addEventListener("beforeunload", warn);
    return () => removeEventListener("beforeunload", warn);
  }, []);

  useEffect(() => {
    const look = () =>
      document.visibilityState === "visible" &&
      useSession
        .getState()
        .refresh()
        .catch(() => undefined);
    const timer = setInterval(look, LOOK_EVERY_MS);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);

  const drop = (event: DragEvent) => {
    event.preventDefault();
    setDropping(false);
    const files = [...event.dataTransfer.files];
    const notebooks = files.filter((file) => file.name.endsWith(".ipynb"));
    void useFiles.getState().send(files.filter((file) => !notebooks.includes(file)));
    for (const file of notebooks) void attempt(() => importFile(file));
  };
  const over = (event: DragEvent) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    setDropping(true);
  };

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: files can be chosen by a button as well
    <div
      className={`shell${isRailOpen ? " rail-open" : ""}`}
      onDragOver={over}
      onDragLeave={(event) => event.relatedTarget === null && setDropping(false)}
      onDrop={drop}
    >
      <a className="skip" href="#cells">
        Skip to the cells
      </a>
      <Header isRailOpen={isRailOpen} onRail={() => setRailOpen(!isRailOpen)} onHelp={() => setHelpOpen(true)} />
      <Rail onClose={() => setRailOpen(false)} />
      <Notebook onHelp={() => setHelpOpen(true)} />
      {isDropping && (
        <div className="dropping" aria-hidden="true">
          <p>Drop files for the chat, or a notebook to import</p>
        </div>
      )}
      <Notices />
      {isHelpOpen && <Help onClose={() => setHelpOpen(false)} />}
    </div>
  );
}
