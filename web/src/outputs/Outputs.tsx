import { lazy, Suspense, useState } from "react";
import { size } from "../amounts";
import type { Chart } from "./chart";
import { spec } from "./chart";
import { Failure } from "./Failure";
import { Figure, Html } from "./Frame";
import { Formula, Markdown } from "./Markdown";
import type { Shown, View } from "./shown";
import { Table } from "./Table";
import { Terminal } from "./Terminal";

// Vega is as large as all the rest of the page.
const Drawing = lazy(() => import("./Drawing"));

/** What a cell shows. */
export function Outputs({ outputs, isStale, label }: { outputs: Shown[]; isStale: boolean; label: string }) {
  if (outputs.length === 0) return null;
  return (
    <section className={`outputs${isStale ? " stale" : ""}`} aria-label={label}>
      {outputs.map((shown, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: outputs only ever come behind those that are there
        <Output key={index} shown={shown} />
      ))}
    </section>
  );
}

function Output({ shown }: { shown: Shown }) {
  switch (shown.kind) {
    case "text":
      return <Terminal text={shown.text} isError={shown.isError} />;
    case "image":
      return <img className="picture" src={shown.src} alt="What the code has drawn" />;
    case "html":
      return <Html html={shown.html} />;
    case "markdown":
      return (
        <div className="prose">
          <Markdown text={shown.text} />
        </div>
      );
    case "latex":
      return <Formula text={shown.text} />;
    case "json":
      return <pre className="terminal">{JSON.stringify(shown.value, null, 2)}</pre>;
    case "chart":
      return <ChartOutput chart={shown.chart as Chart} />;
    case "vega":
      return <Drawn spec={shown.spec as object} isLite={shown.isLite} />;
    case "figure":
      return <Figure figure={shown.figure} />;
    case "table":
      return <Table columns={shown.columns} />;
    case "error":
      return <Failure {...shown} />;
    case "link":
      return (
        <p className="link">
          <a href={shown.url} download>
            {shown.mimeType}, {size(shown.size)}
          </a>{" "}
          is too large to be shown here. The link is good for a while.
        </p>
      );
    case "views":
      return <Views views={shown.views} />;
  }
}

function ChartOutput({ chart }: { chart: Chart }) {
  const drawn = spec(chart);
  if (!drawn) return <pre className="terminal">{JSON.stringify(chart, null, 2)}</pre>;
  return <Drawn spec={drawn} isLite />;
}

function Drawn({ spec, isLite }: { spec: object; isLite: boolean }) {
  return (
    <Suspense fallback={<p className="soft">Loading the chart …</p>}>
      <Drawing spec={spec} isLite={isLite} />
    </Suspense>
  );
}

/** One object in the forms it has, the best first. */
function Views({ views }: { views: View[] }) {
  const usable = views.filter(({ shown }) => shown.kind !== "chart" || spec(shown.chart as Chart) !== null);
  const [chosen, choose] = useState(usable[0]?.label);
  const current = usable.find(({ label }) => label === chosen) ?? usable[0];
  if (!current) return null;
  return (
    <div className="views">
      {usable.length > 1 && (
        <fieldset className="segments">
          <legend className="hidden">Show it as</legend>
          {usable.map(({ label }) => (
            <button key={label} type="button" aria-pressed={label === current.label} onClick={() => choose(label)}>
              {label}
            </button>
          ))}
        </fieldset>
      )}
      <Output shown={current.shown} />
    </div>
  );
}
