import { Icon } from "../Icon";
import { isRunning } from "../state/cells";
import { useNotebook } from "../state/notebook";
import { attempt } from "../state/notices";
import { useSession } from "../state/session";

const SAYS: Record<string, { title: string; text: string }> = {
  unknown: { title: "Looking …", text: "" },
  none: { title: "No session", text: "The first run starts a sandbox." },
  gone: {
    title: "No session",
    text: "Earlier variables are gone. The next run starts a sandbox; files are put back.",
  },
  creating: { title: "Starting", text: "A sandbox is being made." },
  idle: { title: "Ready", text: "Variables and files are kept." },
  running: { title: "Running", text: "Code is at work." },
  paused: { title: "Paused", text: "Memory is kept; the next run wakes it." },
};

const LAST: Record<string, string> = {
  new: "new sandbox",
  reused: "warm, reused",
  resumed: "resumed from pause",
  recreated: "recreated",
};

/** Returns what the session is doing, by the name that its words and its lamp have. */
function useActivity(): string {
  const live = useSession((state) => state.live);
  const runs = useNotebook(({ cells }) => cells.some(isRunning));
  const wasUsed = useNotebook(({ cells }) => cells.some((cell) => cell.lastRun));
  if (runs) return "running";
  if (live === undefined) return "unknown";
  return live === null ? (wasUsed ? "gone" : "none") : live.state;
}

/** The state in a word, for where the rail is folded. */
export function Lamp() {
  const state = useActivity();
  return (
    <span className="lamp-in-words" data-state={state}>
      <span className="lamp" aria-hidden="true" />
      <span>{(SAYS[state] ?? SAYS.unknown!).title}</span>
    </span>
  );
}

/** The session's state, always in view. */
export function Session() {
  const { live, last, restart, close } = useSession();
  const state = useActivity();
  const says = SAYS[state] ?? SAYS.unknown!;
  return (
    <section className="session" aria-labelledby="session-title">
      <h2 id="session-title">Session</h2>
      <div className="state" role="status" data-state={state}>
        <span className="lamp" aria-hidden="true" />
        <strong>{says.title}</strong>
        {last && live && (
          <span className={`chip${last.status === "recreated" ? " warn" : ""}`}>
            {LAST[last.status] ?? last.status}
          </span>
        )}
        <p>{says.text}</p>
      </div>
      {live && (
        <>
          <dl className="facts">
            <div>
              <dt>Runs</dt>
              <dd>{live.runCount}</dd>
            </div>
            <div>
              <dt>Sandbox no.</dt>
              <dd>{live.generation}</dd>
            </div>
            <div>
              <dt>Kept until</dt>
              <dd>
                <time dateTime={live.expiresAt}>
                  {new Date(live.expiresAt).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}
                </time>
              </dd>
            </div>
          </dl>
          <div className="row">
            <button type="button" onClick={() => void attempt(restart)}>
              <Icon name="restart" /> Restart kernel
            </button>
            <button type="button" onClick={() => void attempt(close)}>
              <Icon name="close" /> End
            </button>
          </div>
        </>
      )}
    </section>
  );
}
