// Loaded when there is a formula. As MathML, which browsers draw themselves: no fonts, and no styles in the markup.
import { renderToString } from "katex";

export function formula(source: string, isBlock: boolean): string {
  return renderToString(source, { output: "mathml", displayMode: isBlock, throwOnError: false, trust: false });
}
