import { Coloured } from "./Terminal";
import { type Frame, frames } from "./traceback";

type Props = { name: string; value: string; traceback: string };

/** Why code failed: what, then where in the user's own code; the frames of libraries are folded. */
export function Failure({ name, value, traceback }: Props) {
  const all = frames(traceback);
  const own = all.filter(({ isOwn }) => isOwn);
  const foreign = all.length - own.length;
  return (
    <div className="failure">
      <p className="what">
        <strong>{name}</strong>
        {value && `: ${value}`}
      </p>
      <Frames frames={own} />
      {all.length === 0 && traceback && (
        <pre className="terminal">
          <Coloured text={traceback} />
        </pre>
      )}
      {foreign > 0 && (
        <details className="frames">
          <summary>
            Whole traceback, with {foreign === 1 ? "1 frame of a library" : `${foreign} frames of libraries`}
          </summary>
          <Frames frames={all} />
        </details>
      )}
    </div>
  );
}

function Frames({ frames }: { frames: Frame[] }) {
  return frames.map((frame, index) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: a place can come twice
    <div key={index} className="frame">
      <p className="where">{frame.where}</p>
      <pre className="terminal">
        <Coloured text={frame.lines} />
      </pre>
    </div>
  ));
}
