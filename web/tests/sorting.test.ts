import { expect, test } from "vitest";
import { clicked, sorted } from "../src/outputs/sorting";

test("clicks go up, down, and back", () => {
  const up = clicked(null, "a");
  const down = clicked(up, "a");
  expect([up?.direction, down?.direction, clicked(down, "a")]).toEqual(["ascending", "descending", null]);
});

test("a click on another column begins anew", () => {
  expect(clicked({ column: "a", direction: "descending" }, "b")).toEqual({ column: "b", direction: "ascending" });
});

test("numbers are sorted as numbers", () => {
  expect(sorted([10, 9, 100], "ascending")).toEqual([1, 0, 2]);
});

test("texts are sorted as people do", () => {
  expect(sorted(["item 10", "Item 9"], "ascending")).toEqual([1, 0]);
});

test("rows without a value come last, whichever way", () => {
  expect(sorted([null, 2, undefined, 1], "ascending")).toEqual([3, 1, 0, 2]);
  expect(sorted([null, 2, Number.NaN, 1], "descending")).toEqual([1, 3, 0, 2]);
});

test("equal rows stay in their order", () => {
  expect(sorted(["x", "x", "a"], "descending")).toEqual([0, 1, 2]);
});
