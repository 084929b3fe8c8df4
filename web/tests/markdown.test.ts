import { expect, test } from "vitest";
import { hasFormulas, html } from "../src/outputs/markdown";

const formula = (source: string, isBlock: boolean) => `<math>${isBlock ? "block " : ""}${source}</math>`;

test("markup in the text stays text", () => {
  expect(html("<img src=x onerror=alert(1)>")).toBe("<p>&lt;img src=x onerror=alert(1)&gt;</p>\n");
});

test("an address that runs something is no link", () => {
  expect(html("[x](javascript:alert(1))")).not.toContain("<a");
  expect(html("![x](data:text/html;base64,AAAA)")).not.toContain("<img");
});

test("links open elsewhere, and tell nothing of where they come from", () => {
  expect(html("[x](https://example.org)")).toContain('target="_blank" rel="noopener noreferrer"');
});

test("formulas are drawn, prices and code are not", () => {
  expect(html("$a_1$ and $$b$$", {}, formula)).toBe("<p><math>a_1</math> and <math>block b</math></p>\n");
  expect(hasFormulas("it costs $5, or $6")).toBe(false);
  expect(html("`$x$`", {}, formula)).toBe("<p><code>$x$</code></p>\n");
});

test("images that a cell brings along are shown", () => {
  const attachments = { "a.png": { "image/png": "aGk=" } };
  expect(html("![x](attachment:a.png)", attachments)).toContain('src="data:image/png;base64,aGk="');
});
