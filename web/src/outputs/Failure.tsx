import { Coloured } from "./Terminal";
import { type Frame, folded } from "./traceback";

type Props = { name: string; value: string; traceback: string };

/** Why code failed: what, then where in the user's own code; the frames of libraries are folded. */
export function Failure({ name, value, traceback }: Props) {
  const groups = folded(traceback);
  return (
    <div className="failure">
      <p className="what">
        <strong>{name}</strong>
        {value && `: ${value}`}
      </p>
      {groups.length === 0 && traceback && (
        <pre className="terminal">
          <Coloured text={traceback} />
        </pre>
      )}
      {groups.map((group, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: frames stay where they are
        <Group key={index} frames={group} />
      ))}
    </div>
  );
}

function Group({ frames }: { frames: Frame[] }) {
  if (frames[0]?.isOwn) return frames.map((frame) => <Shown key={frame.where} frame={frame} />);
  const count = frames.length;
  return (
    <details className="frames">
      <summary>{count === 1 ? "1 frame of a library" : `${count} frames of libraries`}</summary>
      {frames.map((frame, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a place can come twice
        <Shown key={index} frame={frame} />
      ))}
    </details>
  );
}

function Shown({ frame }: { frame: Frame }) {
  return (
    <div className="frame">
      <p className="where">{frame.where}</p>
      <pre className="terminal">
        <Coloured text={frame.lines} />
      </pre>
    </div>
  );
}
