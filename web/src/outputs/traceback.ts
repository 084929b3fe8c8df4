// A traceback in parts: the user's own frames, and those of libraries, which are folded.
import { plain } from "./ansi";

export type Frame = { where: string; lines: string; isOwn: boolean };

const FRAME = /^\s{0,2}(?:Cell In\[\d+\]|Cell |File |Input In|~?\/)/;
const OWN = /^\s{0,2}(?:Cell |Input In|File (?:\/home\/user|~)\/(?!.*(?:site-packages|dist-packages|lib\/python)))/;

/** Returns the frames in their order, each with its code, colours included. What comes before the first is no frame. */
export function frames(traceback: string): Frame[] {
  const found: Frame[] = [];
  const lines = traceback.split("\n");
  const end = lines.length - [...lines].reverse().findIndex((line) => /^[A-Za-z_.]+(?:: |$)/.test(plain(line))) - 1;
  lines.forEach((line, index) => {
    const bare = plain(line);
    if (FRAME.test(bare)) found.push({ where: bare.trim(), lines: "", isOwn: OWN.test(bare) });
    else if (found.length && index < end) found[found.length - 1]!.lines += `${line}\n`;
  });
  return found.map((frame) => ({ ...frame, lines: frame.lines.trimEnd() }));
}
