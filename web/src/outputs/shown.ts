// What a cell shows, whichever way it was told: as nbformat's outputs, or live as results. Both come to this.
export type Shown =
  | { kind: "text"; text: string; isError: boolean }
  | { kind: "image"; src: string }
  | { kind: "html"; html: string }
  | { kind: "markdown"; text: string }
  | { kind: "latex"; text: string }
  | { kind: "json"; value: unknown }
  | { kind: "chart"; chart: unknown }
  | { kind: "vega"; spec: unknown; isLite: boolean }
  | { kind: "figure"; figure: unknown }
  | { kind: "table"; columns: Columns }
  | { kind: "error"; name: string; value: string; traceback: string }
  | { kind: "link"; mimeType: string; url: string; size: number }
  | { kind: "views"; views: View[] };

export type View = { label: string; shown: Shown };
export type Columns = Record<string, unknown[]>;
type Data = Record<string, unknown>;

const CHART = "application/vnd.e2b.chart+json";
const TABLE = "application/vnd.e2b.data+json";
const PLOTLY = /^application\/vnd\.plotly\.v\d+\+json$/;
const VEGA = /^application\/vnd\.vega(lite)?\.v\d+\+json$/;

/** Returns what an output in nbformat 4.5 comes to; null for one that there is nothing to see of. */
export function ofOutput(output: Data): Shown | null {
  switch (output.output_type) {
    case "stream":
      return { kind: "text", text: text(output.text), isError: output.name === "stderr" };
    case "error":
      return {
        kind: "error",
        name: text(output.ename),
        value: text(output.evalue),
        traceback: Array.isArray(output.traceback) ? output.traceback.join("\n") : "",
      };
    default:
      return ofBundle((output.data ?? {}) as Data, (output.metadata ?? {}) as Data);
  }
}

/** Returns an object in the forms worth showing, the one that tells most first. */
function ofBundle(data: Data, metadata: Data): Shown | null {
  const link = metadata.sandkeeper as { mimeType: string; url: string; size: number } | undefined;
  // A notebook that was imported can say what it likes: nothing but an address to load from is one.
  if (/^https?:\/\//.test(String(link?.url))) return { kind: "link", ...link! };
  const own = text(data["text/plain"]);
  const isTold = own !== "" && !/^<.*>$/s.test(own); // a dict prints itself as Python has it, and is JSON besides
  const views = Object.entries(data)
    .filter(([mime]) => !(isTold && mime === "application/json"))
    .map(([mime, value]) => view(mime, value))
    .filter((found) => found !== null)
    .sort((one, other) => rank(one) - rank(other));
  const best = views[0];
  if (best) return views.length > 1 ? { kind: "views", views } : best.shown;
  return own ? { kind: "text", text: own, isError: false } : null;
}

function view(mime: string, value: unknown): View | null {
  if (mime === CHART && isChart(value)) return { label: "Chart", shown: { kind: "chart", chart: value } };
  if (mime === TABLE && isColumns(value)) return { label: "Table", shown: { kind: "table", columns: value } };
  if (PLOTLY.test(mime)) return { label: "Chart", shown: { kind: "figure", figure: value } };
  if (VEGA.test(mime)) {
    return { label: "Chart", shown: { kind: "vega", spec: value, isLite: mime.includes("vegalite") } };
  }
  switch (mime) {
    case "image/png":
    case "image/jpeg":
    case "image/gif":
      return { label: "Picture", shown: { kind: "image", src: `data:${mime};base64,${text(value).trim()}` } };
    case "image/svg+xml": // as an image it runs nothing, whatever is in it
      return {
        label: "Picture",
        shown: { kind: "image", src: `data:${mime};charset=utf-8,${encodeURIComponent(text(value))}` },
      };
    case "text/html":
      return { label: "HTML", shown: { kind: "html", html: text(value) } };
    case "text/markdown":
      return { label: "Text", shown: { kind: "markdown", text: text(value) } };
    case "text/latex":
      return { label: "Formula", shown: { kind: "latex", text: text(value) } };
    case "application/json":
      return { label: "JSON", shown: { kind: "json", value } };
    default:
      return null;
  }
}

const ORDER = ["Picture", "Chart", "Table", "HTML", "Formula", "Text", "JSON"];

function rank({ label }: View): number {
  return ORDER.indexOf(label);
}

export type Result = { type: string; mimeType: string; content?: unknown; url?: string; size?: number };

/** Returns the outputs with these live results behind them: text goes on where it stopped, data joins its picture. */
export function withResults(outputs: Shown[], results: Result[]): Shown[] {
  const all = [...outputs];
  for (const shown of results.map(ofResult).filter((each) => each !== null)) {
    const joined = join(all.at(-1), shown);
    if (joined) all[all.length - 1] = joined;
    else all.push(shown);
  }
  return all;
}

/** Returns both as one where they belong together, else null. */
function join(last: Shown | undefined, shown: Shown): Shown | null {
  if (last?.kind === "text" && shown.kind === "text" && last.isError === shown.isError) {
    return { ...last, text: last.text + shown.text };
  }
  const isOfImage = shown.kind === "chart" && last?.kind === "image";
  const isOfHtml = shown.kind === "table" && last?.kind === "html";
  if (!last || !(isOfImage || isOfHtml)) return null;
  return { kind: "views", views: [labelled(last), labelled(shown)].sort((one, other) => rank(one) - rank(other)) };
}

function ofResult(result: Result): Shown | null {
  const { type, mimeType, content } = result;
  if (result.url) return { kind: "link", mimeType, url: result.url, size: result.size ?? 0 };
  if (type === "text") return { kind: "text", text: text(content), isError: mimeType.includes("stderr") };
  if (type === "error") {
    const lines = text(content).trimEnd().split("\n");
    const [name, ...value] = (lines.at(-1) ?? "").split(": ");
    return { kind: "error", name: name ?? "", value: value.join(": "), traceback: text(content) };
  }
  return view(mimeType, content)?.shown ?? { kind: "json", value: content };
}

function labelled(shown: Shown): View {
  const labels: Partial<Record<Shown["kind"], string>> = {
    image: "Picture",
    chart: "Chart",
    table: "Table",
    html: "HTML",
  };
  return { label: labels[shown.kind] ?? "Text", shown };
}

function isChart(value: unknown): boolean {
  return typeof value === "object" && value !== null && (value as Data).type !== "unknown";
}

function isColumns(value: unknown): value is Columns {
  return typeof value === "object" && value !== null && Object.values(value).every(Array.isArray);
}

/** Returns text that nbformat may keep as lines. */
function text(value: unknown): string {
  return Array.isArray(value)
    ? value.join("")
    : typeof value === "string"
      ? value
      : value == null
        ? ""
        : JSON.stringify(value);
}
