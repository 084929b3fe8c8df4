import { useEffect, useState } from "react";
import { hasFormulas, html } from "./markdown";

type Attachments = Record<string, unknown>;
type Mathml = typeof import("./mathml");

/** Markdown. HTML in it stays text: it comes from whoever wrote the notebook. */
export function Markdown({ text, attachments = {} }: { text: string; attachments?: Attachments }) {
  const mathml = useMathml(hasFormulas(text));
  const shown = html(text, attachments, mathml?.formula);
  // biome-ignore lint/security/noDangerouslySetInnerHtml: markdown-it escapes all HTML of the text (`html: false`)
  return <div dangerouslySetInnerHTML={{ __html: shown }} />;
}

/** What code has put out as LaTeX. */
export function Formula({ text }: { text: string }) {
  const mathml = useMathml(true);
  const source = text.trim().replace(/^\$+(?:\\displaystyle)?|\$+$/g, "");
  if (!mathml) return <pre className="terminal">{text}</pre>;
  // biome-ignore lint/security/noDangerouslySetInnerHtml: KaTeX writes it, and trusts nothing in the text
  return <div className="formula" dangerouslySetInnerHTML={{ __html: mathml.formula(source, true) }} />;
}

function useMathml(isWanted: boolean): Mathml | null {
  const [loaded, setLoaded] = useState<Mathml | null>(null);
  useEffect(() => {
    if (isWanted) void import("./mathml").then(setLoaded);
  }, [isWanted]);
  return loaded;
}
