// Markdown to HTML that is safe to show: no markup of the text's own, no address that runs something.
import MarkdownIt from "markdown-it";

type Formula = (source: string, isBlock: boolean) => string;

const FORMULA = /\$\$([\s\S]+?)\$\$|(?<![\\$\d])\$(?!\s)([^$\n]+?)(?<![\s\\])\$(?!\d)/g;
const INLINE_IMAGE = /^data:image\/(?:png|jpeg|gif|webp);base64,/;

const parser = new MarkdownIt({ html: false, linkify: true, typographer: true });
const isUsual = parser.validateLink;
parser.validateLink = (url) => isUsual(url) || INLINE_IMAGE.test(url);
parser.renderer.rules.link_open = (tokens, index, options, _, renderer) => {
  tokens[index]!.attrSet("target", "_blank");
  tokens[index]!.attrSet("rel", "noopener noreferrer");
  return renderer.renderToken(tokens, index, options);
};

export function hasFormulas(text: string): boolean {
  return text.includes("$") && text.search(FORMULA) >= 0;
}

/** Returns the HTML. `formula` writes what stands between dollar signs; without it that stays as it is. */
export function html(text: string, attachments: Record<string, unknown> = {}, formula?: Formula): string {
  const formulas: string[] = [];
  const outside = text.split(/(```[\s\S]*?```|`[^`\n]*`)/).map((part, index) => {
    if (index % 2 === 1 || !formula) return part;
    return part.replace(FORMULA, (_, block?: string, inline?: string) => {
      formulas.push(formula(block ?? inline ?? "", block !== undefined));
      return `\u0002${formulas.length - 1}\u0003`;
    });
  });
  const rendered = parser.render(withAttachments(outside.join(""), attachments));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no text has them, which is why they mark the places
  return rendered.replace(/\u0002(\d+)\u0003/g, (_, index) => formulas[Number(index)] ?? "");
}

/** Images that a notebook keeps in a cell: `![](attachment:name.png)`. */
function withAttachments(text: string, attachments: Record<string, unknown>): string {
  return text.replace(/\(attachment:([^)\s]+)\)/g, (whole, name: string) => {
    const forms = attachments[decodeURIComponent(name)] as Record<string, string> | undefined;
    const [mime, content] = Object.entries(forms ?? {}).find(([type]) => type.startsWith("image/")) ?? [];
    return mime && content ? `(data:${mime};base64,${String(content).replace(/\s/g, "")})` : whole;
  });
}
