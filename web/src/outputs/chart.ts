// Charts that E2B has read from matplotlib, as Vega-Lite draws them.
type Point = [number | string, number | string];
type Axis = { label: string | null; scale?: string };
export type Chart = {
  type: string;
  title?: string | null;
  x_label?: string | null;
  y_label?: string | null;
  x_scale?: string;
  y_scale?: string;
  elements: Record<string, unknown>[];
};
export type Spec = Record<string, unknown>;

/** Returns the chart for Vega-Lite; null for one of which only its picture can be shown. */
export function spec(chart: Chart): Spec | null {
  const drawn = body(chart);
  if (!drawn) return null;
  return { ...(chart.title ? { title: chart.title } : {}), ...drawn };
}

function body(chart: Chart): Spec | null {
  const x = { label: chart.x_label ?? null, scale: chart.x_scale };
  const y = { label: chart.y_label ?? null, scale: chart.y_scale };
  switch (chart.type) {
    case "line":
      return points(chart, x, y, { type: "line", point: true, tooltip: true });
    case "scatter":
      return points(chart, x, y, { type: "point", filled: true, size: 60, tooltip: true });
    case "bar":
      return bars(chart, x, y);
    case "pie":
      return pie(chart);
    case "box_and_whisker":
      return boxes(chart, y);
    case "superchart": {
      const inner = (chart.elements as unknown as Chart[]).map(spec).filter((each) => each !== null);
      const sized = inner.map((each) => ({ width: 280, height: 220, ...each }));
      return sized.length ? { concat: sized, columns: 2 } : null;
    }
    default:
      return null;
  }
}

function points(chart: Chart, x: Axis, y: Axis, mark: Spec): Spec {
  const rows = chart.elements.flatMap(({ label, points: found }) =>
    (found as Point[]).map(([first, second], order) => ({ x: first, y: second, label, order })),
  );
  return {
    data: { values: rows },
    mark,
    encoding: {
      x: {
        field: "x",
        ...axis(
          x,
          rows.map((row) => row.x),
        ),
      },
      y: {
        field: "y",
        ...axis(
          y,
          rows.map((row) => row.y),
        ),
      },
      ...colour(chart.elements.length, "label"),
      ...(mark.type === "line" ? { order: { field: "order" } } : {}),
    },
  };
}

function bars(chart: Chart, x: Axis, y: Axis): Spec {
  const groups = new Set(chart.elements.map(({ group }) => group));
  return {
    data: { values: chart.elements },
    mark: { type: "bar", tooltip: true, cornerRadiusEnd: 2 },
    encoding: {
      x: { field: "label", type: "nominal", title: x.label, sort: null, axis: { labelAngle: -30 } },
      y: { field: "value", type: "quantitative", title: y.label },
      ...colour(groups.size, "group"),
      ...(groups.size > 1 ? { xOffset: { field: "group" } } : {}),
    },
  };
}

function pie(chart: Chart): Spec {
  return {
    data: { values: chart.elements },
    mark: { type: "arc", tooltip: true, stroke: "#fff" },
    encoding: {
      theta: { field: "angle", type: "quantitative", stack: true },
      color: { field: "label", type: "nominal", title: null, sort: null },
    },
  };
}

function boxes(chart: Chart, y: Axis): Spec {
  const x = { field: "label", type: "nominal", title: chart.x_label ?? null, sort: null };
  const value = (field: string) => ({ field, type: "quantitative", title: y.label, scale: { zero: false } });
  const outliers = chart.elements.flatMap(({ label, outliers: found }) =>
    ((found as number[] | undefined) ?? []).map((outlier) => ({ label, outlier })),
  );
  return {
    layer: [
      { mark: "rule", data: { values: chart.elements }, encoding: { x, y: value("min"), y2: { field: "max" } } },
      {
        mark: { type: "bar", size: 28, tooltip: true },
        data: { values: chart.elements },
        encoding: { x, y: value("first_quartile"), y2: { field: "third_quartile" } },
      },
      {
        mark: { type: "tick", size: 28, thickness: 2, color: "#fff" },
        data: { values: chart.elements },
        encoding: { x, y: value("median") },
      },
      { mark: { type: "point", tooltip: true }, data: { values: outliers }, encoding: { x, y: value("outlier") } },
    ],
  };
}

function axis({ label, scale }: Axis, values: (number | string)[]): Spec {
  const isNumeric = values.every((value) => typeof value === "number");
  const isTemporal = !isNumeric && values.every((value) => /^\d{4}-\d{2}-\d{2}/.test(String(value)));
  const type = isNumeric ? "quantitative" : isTemporal ? "temporal" : "nominal";
  const isLog = isNumeric && scale === "log" && values.every((value) => Number(value) > 0);
  return {
    type,
    title: label,
    ...(isNumeric ? { scale: isLog ? { type: "log" } : { zero: false } } : { sort: null }),
  };
}

function colour(series: number, field: string): Spec {
  return series > 1 ? { color: { field, type: "nominal", title: null } } : {};
}
