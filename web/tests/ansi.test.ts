import { expect, test } from "vitest";
import { plain, spans } from "../src/outputs/ansi";

const ESC = "\u001b";

test("text without colours is one span", () => {
  expect(spans("plain")).toEqual([{ text: "plain", style: {} }]);
});

test("a colour lasts until it is taken back", () => {
  const found = spans(`a${ESC}[31mb${ESC}[39mc`);
  expect(found.map(({ text, style }) => [text, style.color])).toEqual([
    ["a", undefined],
    ["b", 1],
    ["c", undefined],
  ]);
});

test("bold, a colour of 256 and a true colour can stand in one sequence", () => {
  expect(spans(`${ESC}[1;38;5;208;48;2;1;2;3mx`)[0]!.style).toEqual({
    bold: true,
    color: "rgb(255 135 0)",
    background: "rgb(1 2 3)",
  });
});

test("a sequence without numbers resets", () => {
  expect(spans(`${ESC}[1mx${ESC}[my`)[1]).toEqual({ text: "y", style: {} });
});

test("sequences that move the cursor are not shown", () => {
  expect(
    spans(`a${ESC}[2Kb${ESC}]0;title\u0007c`)
      .map(({ text }) => text)
      .join(""),
  ).toBe("abc");
});

test("a progress bar shows its last state", () => {
  expect(spans("10%\r50%\r100%\ndone")[0]!.text).toBe("100%\ndone");
});

test("what a shorter line does not cover stays", () => {
  expect(spans("abcdef\rXY")[0]!.text).toBe("XYcdef");
});

test("windows line ends are line ends", () => {
  expect(spans("a\r\nb")[0]!.text).toBe("a\nb");
});

test("plain text has no colours", () => {
  expect(plain(`${ESC}[31mred${ESC}[0m`)).toBe("red");
});

test("a backspace takes one character back", () => {
  expect(spans("abc\b\bX")[0]!.text).toBe("aX");
});
