import { expect, test } from "vitest";
import type { CellSchema } from "../src/api/schema";
import { type Cell, fresh, isDirty, merged, ordered, withLive } from "../src/state/cells";

const told = (changed: Partial<CellSchema> = {}): CellSchema => ({
  cellId: "a",
  type: "code",
  source: "1",
  metadata: {},
  attachments: {},
  etag: '"1"',
  executionCount: null,
  outputs: [],
  lastRun: null,
  ...changed,
});
const run = (state: "running" | "ended", executionId = "r1") => ({
  executionId,
  state,
  success: state === "ended" ? true : null,
  beganAt: "2026-01-01T00:00:00Z",
  endedAt: state === "ended" ? "2026-01-01T00:00:01Z" : null,
  isCurrent: true,
});
const text = (content: string) => [{ type: "text", mimeType: "text/plain", content }];
const stream = [{ output_type: "stream", name: "stdout", text: "all of it" }];

test("a cell that is told anew is taken where nothing is typed", () => {
  expect(merged(fresh(told()), told({ source: "2", etag: '"2"' }))).toMatchObject({
    draft: "2",
    source: "2",
    theirs: null,
  });
});

test("what is typed and not saved outlasts what somebody else has saved", () => {
  const typed = { ...fresh(told()), draft: "mine" };
  const cell = merged(typed, told({ source: "theirs", etag: '"2"' }));
  expect(cell).toMatchObject({ draft: "mine", etag: '"1"', theirs: { source: "theirs", etag: '"2"' } });
  expect(isDirty(cell)).toBe(true);
});

test("the echo of one's own edit is no conflict, though more has been typed since", () => {
  const typed = { ...fresh(told()), draft: "abc", sending: "ab" };
  expect(merged(typed, told({ source: "ab", etag: '"2"' }))).toMatchObject({
    draft: "abc",
    source: "ab",
    theirs: null,
  });
});

test("two who type the same have no conflict", () => {
  const typed = { ...fresh(told()), draft: "same" };
  expect(merged(typed, told({ source: "same", etag: '"2"' })).theirs).toBeNull();
});

test("what is told late changes nothing", () => {
  const cell = fresh(told({ source: "new", etag: '"10"' }));
  expect(merged(cell, told({ source: "old", etag: '"9"' })).source).toBe("new");
});

test("a run that begins takes away what its cell showed", () => {
  const cell = merged(
    fresh(told({ outputs: stream, lastRun: run("ended") })),
    told({ lastRun: run("running", "r2") }),
  );
  expect(cell.outputs).toEqual([]);
});

test("output of a run comes piece by piece, and its end brings all of it", () => {
  const begun = merged(fresh(told()), told({ lastRun: run("running") }));
  const live = withLive(withLive(begun, "r1", text("a")), "r1", text("b"));
  expect(live.outputs).toMatchObject([{ text: "ab" }]);
  expect(merged(live, told({ lastRun: run("running") })).outputs).toEqual(live.outputs);
  expect(merged(live, told({ outputs: stream, lastRun: run("ended") })).outputs).toMatchObject([
    { text: "all of it" },
  ]);
});

test("output that comes after the end, or of another run, is not shown twice", () => {
  const done = merged(fresh(told()), told({ outputs: stream, lastRun: run("ended") }));
  expect(withLive(done, "r1", text("again"))).toBe(done);
  const other = merged(fresh(told()), told({ lastRun: run("running", "r2") }));
  expect(withLive(other, "r1", text("old"))).toBe(other);
});

test("outputs that were not told stay as they are", () => {
  const cell = fresh(told({ outputs: stream, lastRun: run("ended") }));
  expect(merged(cell, told({ outputs: null, lastRun: run("ended") })).outputs).toEqual(cell.outputs);
});

test("cells stand in the order that is told, and one that it does not know keeps its place", () => {
  const cells = ["a", "b", "new", "c"].map((cellId) => ({ cellId }) as Cell);
  expect(ordered(cells, ["c", "b", "a"]).map(({ cellId }) => cellId)).toEqual(["c", "b", "new", "a"]);
});

test("somebody who makes the cell another type is in nobody's way", () => {
  const typed = { ...fresh(told()), draft: "mine" };
  expect(merged(typed, told({ type: "markdown", etag: '"2"' }))).toMatchObject({
    type: "markdown",
    draft: "mine",
    etag: '"2"',
    theirs: null,
  });
});
