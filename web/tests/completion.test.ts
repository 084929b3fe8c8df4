import { describe, expect, it } from "vitest";
import { isTelling, placed } from "../src/notebook/completion";

const reply = (start: number, end: number, ...texts: string[]) => ({
  available: true,
  start,
  end,
  matches: texts.map((text) => ({ text, kind: "" })),
});

describe("what is worth asking the kernel for", () => {
  it.each([
    "df.",
    "df.gr",
    "table['a'].me",
    "f(x).y",
    "sal",
    "df['",
    'df["Age in',
    "open('/tm",
    "from pandas import D",
    "import nu",
  ])("%s", (before) => expect(isTelling(before)).toBe(true));

  it.each(["", " ", "x", "x = ", "f(", "# ", "df[", "df['Age']"])("but not %j", (before) =>
    expect(isTelling(before)).toBe(false),
  );
});

describe("where a completion goes", () => {
  it("leaves an attribute's dot where it is", () => {
    const found = placed(reply(2, 5, ".groupby", ".groups"), "df.gr");
    expect(found).toMatchObject({ from: 3, to: 5, options: [{ label: "groupby" }, { label: "groups" }] });
    expect(found?.validFor).toEqual(/^\w*$/);
  });

  it("counts as the editor does", () => {
    expect(placed(reply(5, 7, "salary"), "'😀'; sa")).toMatchObject({ from: 6, to: 8 });
  });

  it("goes on with a key while it is written", () => {
    expect(placed(reply(4, 7, "Age in years"), "df['Age")?.validFor).toEqual(/^[^"'\]]*$/);
  });

  it("asks again where not all could be told", () => {
    const many = Array.from({ length: 200 }, (_, n) => `many_${n}`);
    expect(placed(reply(0, 5, ...many), "many_")?.validFor).toBeUndefined();
  });

  it("offers nothing where there is nothing", () => {
    expect(placed(reply(3, 3), "xyz")).toBeNull();
  });
});
