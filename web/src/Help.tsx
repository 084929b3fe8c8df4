import { useEffect, useRef } from "react";

const GROUPS: [string, [string, string][]][] = [
  [
    "While you write",
    [
      ["Shift + Enter", "run, and go on to the next cell"],
      ["Ctrl + Enter", "run, and stay"],
      ["Alt + Enter", "run, and put a cell below"],
      ["Tab", "behind code: complete it, by what lives in the kernel"],
      ["Esc", "leave the editor for the cell"],
    ],
  ],
  [
    "On a cell",
    [
      ["Enter", "write in it"],
      ["↑ ↓ or K J", "go to the cell above or below"],
      ["A B", "put a cell above or below"],
      ["M Y", "make it text or code"],
      ["Alt + ↑ ↓", "move it"],
      ["D D", "delete it"],
      ["I I", "stop the code that runs"],
    ],
  ],
];

/** The keys, in a dialog. */
export function Help({ onClose }: { onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} className="help" aria-labelledby="help-title" onClose={onClose}>
      <h2 id="help-title">Keys</h2>
      {GROUPS.map(([title, keys]) => (
        <section key={title}>
          <h3>{title}</h3>
          <dl>
            {keys.map(([key, what]) => (
              <div key={key}>
                <dt>
                  <kbd>{key}</kbd>
                </dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
      <form method="dialog">
        <button type="submit" className="primary">
          Close
        </button>
      </form>
    </dialog>
  );
}
