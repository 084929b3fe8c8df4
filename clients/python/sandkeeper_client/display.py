"""How a run looks in Jupyter: what it showed, in its order, as Jupyter would have shown it.

Nothing that comes from the service is trusted here. The code ran in a sandbox, but a page that Jupyter shows has
the rights of the notebook: it could run code on this machine. So text, errors, names and tables are escaped;
pictures are `<img>`, in which an SVG's scripts do not run; and HTML goes, scripts and all, into a frame with an
origin of its own, which draws what it likes and cannot touch the notebook. Markdown and LaTeX are shown as they are
written.
"""

import json
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from sandkeeper_client.runs import Result, Run

PICTURES = ("image/png", "image/jpeg")
SVG = "image/svg+xml"
STDERR_STYLE = "background: #fdd; color: #000"
FRAME = (
    '<iframe sandbox="allow-scripts" srcdoc="{page}" '
    'style="width: 100%; height: {height}px; border: 0; background: #fff; resize: vertical"></iframe>'
)
LINE_PX, LEAST_PX, MOST_PX = 24, 160, 600


def html_of(run: "Run") -> str:
    """Returns what the run showed as HTML, safe to be part of any page."""
    parts = [*_parts(run)]
    if run.error is not None and not any(each.type == "error" for each in run.results):
        parts.append(_text(run.error, STDERR_STYLE))
    return "\n".join(parts)


def text_of(run: "Run") -> str:
    """Returns what the run showed as plain text, where pictures and pages are only named."""
    has_told = any(each.type == "error" for each in run.results)
    shown = [str(each.content) if _is_text(each) else _named(each) for each in _shown(run)]
    return "\n".join(part.rstrip("\n") for part in [*shown, *([run.error] if run.error and not has_told else [])])


def _shown(run: "Run") -> Iterator["Result"]:
    """Yields what people look at: a picture or page, and not also its data."""
    before = ""
    for each in run.results:
        is_its_data = (before, each.type) in {("image", "chart"), ("html", "chart"), ("html", "table")}
        if not is_its_data:
            yield each
            before = each.type


def _parts(run: "Run") -> Iterator[str]:
    for each in _shown(run):
        if each.content is None:
            yield _text(_named(each))
        elif each.mime_type in PICTURES:
            yield f'<img src="data:{each.mime_type};base64,{escape(str(each.content))}">'
        elif each.mime_type == SVG:
            yield f'<img src="data:{SVG},{quote(str(each.content))}">'
        elif each.type == "html":
            yield _frame(str(each.content))
        elif each.type == "error" or "stderr" in each.mime_type:
            yield _text(str(each.content), STDERR_STYLE)
        elif _is_text(each):
            yield _text(str(each.content))
        elif each.type == "image":
            yield _text(_named(each))
        else:
            yield _text(json.dumps(each.content, indent=1, ensure_ascii=False))


def _frame(page: str) -> str:
    height = min(MOST_PX, max(LEAST_PX, LINE_PX * (2 + page.count("<tr"))))
    return FRAME.format(page=escape(page), height=height)


def _text(text: str, style: str = "") -> str:
    return f'<pre style="{style}">{escape(text)}</pre>' if style else f"<pre>{escape(text)}</pre>"


def _is_text(result: "Result") -> bool:
    return result.content is not None and result.type in ("text", "markdown", "latex", "error")


def _named(result: "Result") -> str:
    """Returns what stands for a result that is not to be seen here."""
    if result.content is None:
        return f"<{result.mime_type}, {result.size or 0:,} bytes: get it with chat.content(result)>"
    return f"<{result.mime_type}>"
