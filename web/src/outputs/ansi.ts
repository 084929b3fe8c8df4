// Text of a terminal: colours, and lines that are written over, as progress bars do it.
export type Style = {
  color?: number | string;
  background?: number | string;
  bold?: boolean;
  faint?: boolean;
  italic?: boolean;
  underline?: boolean;
};
export type Span = { text: string; style: Style };

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what this is about
const SEQUENCE = /\u001b\[([0-9;]*)m|\u001b\[[0-9;?]*[A-Za-ln-z]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g;

/** Returns the text in spans of one style each. */
export function spans(text: string): Span[] {
  const found: Span[] = [];
  let style: Style = {};
  let from = 0;
  const source = overwritten(text);
  for (const match of source.matchAll(SEQUENCE)) {
    if (match.index > from) found.push({ text: source.slice(from, match.index), style });
    from = match.index + match[0].length;
    if (match[1] !== undefined) style = styled(style, match[1].split(";").map(Number));
  }
  if (from < source.length) found.push({ text: source.slice(from), style });
  return found;
}

/** Returns the text without its colours. */
export function plain(text: string): string {
  return text.replace(SEQUENCE, "");
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: a character, and the step back over it
const BACKSPACE = /[^\u0008]\u0008/;

/** Returns the lines as they look in the end: what follows a carriage return stands over what was before it. */
function overwritten(text: string): string {
  if (!text.includes("\r") && !text.includes("\b")) return text;
  return text
    .replace(/\r+\n/g, "\n")
    .split("\n")
    .map((line) => {
      let shown = line.split("\r").reduce((before, after) => after + plain(before).slice(plain(after).length));
      while (BACKSPACE.test(shown)) shown = shown.replace(BACKSPACE, "");
      return shown;
    })
    .join("\n");
}

function styled(before: Style, codes: number[]): Style {
  let style = { ...before };
  for (let index = 0; index < codes.length; index++) {
    const code = codes[index] ?? 0;
    if (code === 0) style = {};
    else if (code === 1) style.bold = true;
    else if (code === 2) style.faint = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underline = true;
    else if (code === 22) style = { ...style, bold: false, faint: false };
    else if (code === 23) style.italic = false;
    else if (code === 24) style.underline = false;
    else if (code === 39) style.color = undefined;
    else if (code === 49) style.background = undefined;
    else if (code >= 30 && code <= 37) style.color = code - 30;
    else if (code >= 90 && code <= 97) style.color = code - 90 + 8;
    else if (code >= 40 && code <= 47) style.background = code - 40;
    else if (code >= 100 && code <= 107) style.background = code - 100 + 8;
    else if (code === 38 || code === 48) {
      const isTrue = codes[index + 1] === 2;
      const colour = isTrue
        ? `rgb(${codes.slice(index + 2, index + 5).join(" ")})`
        : indexed(codes[index + 2] ?? 0);
      if (code === 38) style.color = colour;
      else style.background = colour;
      index += isTrue ? 4 : 2;
    }
  }
  return style;
}

/** Returns a colour of the 256: a name of the palette, a cell of the cube, or a grey. */
function indexed(number: number): number | string {
  if (number < 16) return number;
  if (number >= 232) {
    const grey = (number - 232) * 10 + 8;
    return `rgb(${grey} ${grey} ${grey})`;
  }
  const level = (step: number) => (step === 0 ? 0 : 55 + 40 * step);
  const cell = number - 16;
  return `rgb(${level(Math.floor(cell / 36))} ${level(Math.floor(cell / 6) % 6)} ${level(cell % 6)})`;
}
