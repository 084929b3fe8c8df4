import { expect, test } from "vitest";
import { ofOutput, withResults } from "../src/outputs/shown";

const chart = { type: "bar", elements: [] };
const html = { type: "html", mimeType: "text/html", content: "<table></table>" };
const table = { type: "table", mimeType: "application/vnd.e2b.data+json", content: { a: [1] } };

test("text of a stream is text, however nbformat keeps it", () => {
  expect(ofOutput({ output_type: "stream", name: "stderr", text: ["a\n", "b"] })).toEqual({
    kind: "text",
    text: "a\nb",
    isError: true,
  });
});

test("a plot is a picture that can be looked at as a chart", () => {
  const data = { "application/vnd.e2b.chart+json": chart, "text/plain": "<Figure>", "image/png": "aGk=" };
  const shown = ofOutput({ output_type: "display_data", data, metadata: {} });
  expect(shown).toEqual({
    kind: "views",
    views: [
      { label: "Picture", shown: { kind: "image", src: "data:image/png;base64,aGk=" } },
      { label: "Chart", shown: { kind: "chart", chart } },
    ],
  });
});

test("a dataframe is a table first, and HTML if that is asked for", () => {
  const data = { "text/html": "<table></table>", "application/vnd.e2b.data+json": { a: [1] }, "text/plain": "a" };
  const shown = ofOutput({ output_type: "execute_result", data, metadata: {} });
  expect(shown?.kind === "views" && shown.views.map(({ label }) => label)).toEqual(["Table", "HTML"]);
});

test("SVG is an image, so that its scripts do not run", () => {
  const data = { "image/svg+xml": "<svg><script>alert(1)</script></svg>" };
  const shown = ofOutput({ output_type: "display_data", data, metadata: {} });
  expect(shown).toMatchObject({ kind: "image", src: expect.stringMatching(/^data:image\/svg\+xml/) });
});

test("what was too large is a link", () => {
  const metadata = { sandkeeper: { mimeType: "image/png", url: "https://s3/x", size: 9, expiresIn: 1 } };
  const shown = ofOutput({ output_type: "display_data", data: { "text/plain": "[…]" }, metadata });
  expect(shown).toMatchObject({ kind: "link", url: "https://s3/x", size: 9 });
});

test("an address that runs something is no link", () => {
  const metadata = { sandkeeper: { mimeType: "text/plain", url: "javascript:alert(1)", size: 1 } };
  const shown = ofOutput({ output_type: "display_data", data: { "text/plain": "[…]" }, metadata });
  expect(shown).toMatchObject({ kind: "text" });
});

test("a dict prints itself as Python does, though it is JSON, too", () => {
  const data = { "application/json": { a: 1 }, "text/plain": "{'a': 1}" };
  expect(ofOutput({ output_type: "execute_result", data, metadata: {} })).toMatchObject({ text: "{'a': 1}" });
});

test("JSON that does not print itself is shown as JSON", () => {
  const data = { "application/json": { a: 1 }, "text/plain": "<IPython.core.display.JSON object>" };
  expect(ofOutput({ output_type: "display_data", data, metadata: {} })).toEqual({ kind: "json", value: { a: 1 } });
});

test("a type that nobody knows is told as its text", () => {
  const data = { "application/x-other": "…", "text/plain": "an object" };
  expect(ofOutput({ output_type: "execute_result", data, metadata: {} })).toMatchObject({
    kind: "text",
    text: "an object",
  });
});

test("live text goes on where it stopped", () => {
  const first = withResults([], [{ type: "text", mimeType: "text/plain", content: "a" }]);
  const second = withResults(first, [{ type: "text", mimeType: "text/plain", content: "b\n" }]);
  expect(second).toEqual([{ kind: "text", text: "ab\n", isError: false }]);
});

test("live text of another stream stands on its own", () => {
  const results = ["text/plain", "text/plain; stream=stderr"].map((mimeType) => ({
    type: "text",
    mimeType,
    content: "x",
  }));
  expect(withResults([], results)).toHaveLength(2);
});

test("live data join what they are the data of", () => {
  const [shown, ...others] = withResults([], [html, table]);
  expect(others).toEqual([]);
  expect(shown?.kind === "views" && shown.views.map(({ label }) => label)).toEqual(["Table", "HTML"]);
});
