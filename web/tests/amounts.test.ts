import { expect, test } from "vitest";
import { counted, size } from "../src/amounts";

test("one of a kind is told as one", () => {
  expect([0, 1, 2, 1_000].map((many) => counted(many, "row"))).toEqual(["0 rows", "1 row", "2 rows", "1,000 rows"]);
});

test("sizes are told in three figures", () => {
  expect([1, 999, 1_000, 12_345, 999_999, 12_345_678].map(size)).toEqual([
    "1 byte",
    "999 bytes",
    "1 KB",
    "12.3 KB",
    "1,000 KB",
    "12.3 MB",
  ]);
});
