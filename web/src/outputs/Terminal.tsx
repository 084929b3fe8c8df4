import { type CSSProperties, memo, useState } from "react";
import { type Style, spans } from "./ansi";

const LONG_LINES = 400;
const HEAD_LINES = 200;
const TAIL_LINES = 100;

/** Text as a terminal shows it. Of a very long one the two ends, until all is asked for. */
export const Terminal = memo(function Terminal({ text, isError = false }: { text: string; isError?: boolean }) {
  const [isWhole, setWhole] = useState(false);
  const lines = text.split("\n");
  const isLong = !isWhole && lines.length > LONG_LINES;
  const between = lines.length - HEAD_LINES - TAIL_LINES;
  const className = `terminal${isError ? " stderr" : ""}`;
  if (!isLong) {
    return (
      <pre className={className}>
        <Coloured text={text} />
      </pre>
    );
  }
  return (
    <div className={className}>
      <pre>
        <Coloured text={lines.slice(0, HEAD_LINES).join("\n")} />
      </pre>
      <button type="button" className="quiet" onClick={() => setWhole(true)}>
        Show {between.toLocaleString()} more lines
      </button>
      <pre>
        <Coloured text={lines.slice(-TAIL_LINES).join("\n")} />
      </pre>
    </div>
  );
});

export function Coloured({ text }: { text: string }) {
  return spans(text).map(({ text: part, style }, index) => {
    const look = css(style);
    if (!look.className && !look.style) return part;
    return (
      // biome-ignore lint/suspicious/noArrayIndexKey: they have no other name
      <span key={index} {...look}>
        {part}
      </span>
    );
  });
}

function css({ color, background, bold, faint, italic, underline }: Style): {
  className?: string;
  style?: CSSProperties;
} {
  const names = [
    typeof color === "number" && `ansi-${color}`,
    typeof background === "number" && `ansi-on-${background}`,
    bold && "ansi-bold",
    faint && "ansi-faint",
    italic && "ansi-italic",
    underline && "ansi-underline",
  ].filter(Boolean);
  const style: CSSProperties = {
    // Towards the colour of the text, so that it can be read on light and on dark.
    ...(typeof color === "string" ? { color: `color-mix(in oklab, ${color} 62%, var(--ink))` } : {}),
    ...(typeof background === "string"
      ? { backgroundColor: `color-mix(in oklab, ${background} 35%, var(--card))` }
      : {}),
  };
  return {
    ...(names.length ? { className: names.join(" ") } : {}),
    ...(Object.keys(style).length ? { style } : {}),
  };
}
