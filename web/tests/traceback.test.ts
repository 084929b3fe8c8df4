import { expect, test } from "vitest";
import { frames } from "../src/outputs/traceback";

const TRACEBACK = [
  "---------------------------------------------------------------------------",
  "KeyError                                  Traceback (most recent call last)",
  "\u001b[36mFile \u001b[39m\u001b[32m/usr/lib/python3/site-packages/pandas/core/indexes/base.py:3812\u001b[39m, in get_loc(self, key)",
  "   3811 try:",
  "-> 3812     return self._engine.get_loc(key)",
  "",
  "File pandas/_libs/index.pyx:167, in get_loc()",
  "",
  "\u001b[36mCell\u001b[39m In[3], line 2",
  "      1 frame = read()",
  "----> 2 frame['salry']",
  "",
  "File ~/helpers.py:4, in total(frame)",
  "----> 4 return frame.sum()",
  "",
  "KeyError: 'salry'",
].join("\n");

test("frames are told with their code, and the error's own line is none of them", () => {
  const found = frames(TRACEBACK);
  expect(found).toHaveLength(4);
  expect(found[2]).toEqual({
    where: "Cell In[3], line 2",
    lines: "      1 frame = read()\n----> 2 frame['salry']",
    isOwn: true,
  });
});

test("the user's own frames are told from those of libraries", () => {
  expect(frames(TRACEBACK).map(({ isOwn }) => isOwn)).toEqual([false, false, true, true]);
});

test("a syntax error has no traceback but its place", () => {
  const found = frames("  \u001b[36mCell\u001b[39m In[1], line 1\n    1 +\n      ^\nSyntaxError: invalid syntax");
  expect(found.map(({ where }) => where)).toEqual(["Cell In[1], line 1"]);
});
