import { compile } from "vega-lite";
import { expect, test } from "vitest";
import { type Chart, spec } from "../src/outputs/chart";

const line: Chart = {
  type: "line",
  title: "Growth",
  x_label: "Year",
  y_label: "People",
  x_scale: "linear",
  y_scale: "log",
  elements: [
    {
      label: "a",
      points: [
        [2000, 1],
        [2001, 10],
      ],
    },
    {
      label: "b",
      points: [
        [2000, 2],
        [2001, 20],
      ],
    },
  ],
};
const bar: Chart = { type: "bar", elements: [{ label: "x", group: "g", value: 1 }] };
const pie: Chart = {
  type: "pie",
  elements: [
    { label: "x", angle: 90, radius: 1 },
    { label: "y", angle: 270, radius: 1 },
  ],
};
const box: Chart = {
  type: "box_and_whisker",
  elements: [{ label: "x", min: 0, first_quartile: 1, median: 2, third_quartile: 3, max: 4, outliers: [9] }],
};

test.each([
  line,
  { ...line, type: "scatter" },
  bar,
  pie,
  box,
  { type: "superchart", elements: [line, bar] as never },
])("Vega-Lite takes what becomes of a chart: $type", (chart) => {
  expect(compile(spec(chart) as never).spec.$schema).toContain("vega");
});

test("axes have their titles, scales and types", () => {
  const { x, y } = spec(line)!.encoding as Record<string, object>;
  expect(x).toMatchObject({ type: "quantitative", title: "Year", scale: { zero: false } });
  expect(y).toMatchObject({ title: "People", scale: { type: "log" } });
});

test("dates are on a time axis", () => {
  const dated = { ...line, elements: [{ label: "a", points: [["2024-01-01T00:00:00", 1]] }] };
  expect((spec(dated)!.encoding as Record<string, object>).x).toMatchObject({ type: "temporal" });
});

test("one series needs no legend", () => {
  expect(spec(bar)!.encoding).not.toHaveProperty("color");
  expect(spec(line)!.encoding).toHaveProperty("color");
});

test("a chart that nobody knows is none", () => {
  expect(spec({ type: "unknown", elements: [] })).toBeNull();
});
