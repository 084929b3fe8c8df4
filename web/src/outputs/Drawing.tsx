// Loaded when the first chart is looked at.
import { useEffect, useRef } from "react";
import { parse, View } from "vega";
import { expressionInterpreter } from "vega-interpreter";
import { compile } from "vega-lite";
import { useTheme } from "../state/theme";

type Props = { spec: object; isLite: boolean };

/** A chart to hover over. Vega's expressions are interpreted: the content policy lets nothing be evaluated. */
export default function Drawing({ spec, isLite }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const isDark = useTheme((state) => state.isDark);
  const failed = useRef<HTMLParagraphElement>(null);

  useEffect(() => {
    let view: View | undefined;
    const draw = async () => {
      const width = Math.max(240, Math.min(640, (host.current?.clientWidth ?? 640) - 60));
      const sized = isLite && !("concat" in spec) ? { width, height: 300, ...spec } : spec;
      const drawn = isLite ? compile({ ...sized, config: look(isDark) } as never).spec : spec;
      view = new View(parse(drawn as never, undefined, { ast: true }), {
        renderer: "canvas",
        container: host.current!,
        hover: true,
        expr: expressionInterpreter,
      } as never);
      await view.runAsync();
    };
    draw().catch((error) => {
      if (failed.current) failed.current.textContent = `The chart cannot be drawn: ${error.message}`;
    });
    return () => void view?.finalize();
  }, [spec, isLite, isDark]);

  return (
    <>
      <div ref={host} className="drawing" role="img" aria-label={title(spec)} />
      <p ref={failed} className="soft" />
    </>
  );
}

function title(spec: object): string {
  const named = (spec as { title?: unknown }).title;
  return typeof named === "string" ? `Chart: ${named}` : "Chart";
}

function look(isDark: boolean): object {
  const [ink, soft, line] = isDark ? ["#ece4da", "#b3a799", "#3a332d"] : ["#2b2520", "#6b6057", "#e6dccd"];
  const axis = {
    labelColor: soft,
    titleColor: ink,
    gridColor: line,
    domainColor: line,
    tickColor: line,
    titleFontWeight: 500,
  };
  return {
    background: "transparent",
    font: "system-ui, sans-serif",
    title: { color: ink, fontSize: 14, fontWeight: 600, offset: 12 },
    axis,
    legend: { labelColor: soft, titleColor: ink },
    view: { stroke: "transparent" },
    mark: { color: isDark ? "#eb9a6c" : "#b4532a" },
    range: { category: ["#b4532a", "#3f7d78", "#d2a03d", "#6b6fa8", "#8a9a5b", "#a65a78", "#5a7fa8", "#8c6d4f"] },
  };
}
