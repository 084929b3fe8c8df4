"""What a run of the Python client looks like in Jupyter: all that it showed, and nothing that could do harm."""

import base64
import re
from html import unescape
from typing import Any

import pytest

from sandkeeper_client import Run
from tests.client_service import run_told, text

EVIL = "<script>alert(1)</script>"


def shown(*results: dict[str, Any], **more: Any) -> str:
    """Returns the run as HTML."""
    run = Run.of(run_told(*results, **more))
    html = run._repr_html_()
    assert run._repr_mimebundle_()["text/html"] == html
    return html


def result(kind: str, mime_type: str, content: Any) -> dict[str, Any]:
    return {"type": kind, "mimeType": mime_type, "content": content}


def test_text_and_errors_are_told_in_their_order() -> None:
    html = shown(
        text("before\n"), result("error", "text/plain", "NameError: x"), error="NameError: x", success=False
    )
    assert re.sub("<.*?>", "", html) == "before\n\nNameError: x"


def test_the_reason_of_a_run_that_was_stopped_is_told_as_well() -> None:
    html = shown(text("half"), error="TimeoutError: too long", success=False)
    assert "TimeoutError: too long" in html


@pytest.mark.parametrize("kind", ["text", "markdown", "latex", "error", "json", "table", "chart", "hologram"])
def test_whatever_claims_to_be_text_is_escaped(kind: str) -> None:
    html = shown(result(kind, "text/plain", EVIL), error=EVIL)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("mime_type", ["image/png", "image/svg+xml", '"><script>', "application/pdf"])
@pytest.mark.parametrize("content", ['"><script>alert(1)</script>', None])
def test_a_picture_cannot_leave_its_place(mime_type: str, content: str | None) -> None:
    html = shown(result("image", mime_type, content))
    assert "<script" not in html
    assert re.fullmatch(r'<img src="[^"]*">|<pre>[^<]*</pre>', html)


def test_a_page_is_drawn_in_a_frame_of_an_origin_of_its_own() -> None:
    page = f"""<table onload='x("y")'><tr><td>1</td></tr></table>{EVIL}"""
    html = shown(result("html", "text/html", page))
    (attributes,) = re.findall(r"<iframe ([^>]*)></iframe>", html)
    assert "<script" not in html
    assert 'sandbox="allow-scripts"' in attributes
    (source,) = re.findall(r'srcdoc="([^"]*)"', attributes)
    assert unescape(source) == page


def test_pictures_are_shown() -> None:
    png = base64.b64encode(b"\x89PNG").decode()
    html = shown(result("image", "image/png", png), result("image", "image/svg+xml", "<svg/>"))
    assert html == f'<img src="data:image/png;base64,{png}">\n<img src="data:image/svg+xml,%3Csvg/%3E">'


def test_the_data_of_what_is_shown_is_not_shown_again() -> None:
    assert "elements" not in shown(
        result("image", "image/png", "AAAA"), result("chart", "application/json", {"elements": []})
    )
    both = [result("html", "text/html", "<p>"), result("table", "application/json", {"a": [1]})]
    assert '"a"' not in unescape(re.sub("<iframe.*?</iframe>", "", shown(*both)))
    assert '"a"' in unescape(shown(both[1]))


def test_what_was_too_large_is_named_with_how_to_get_it() -> None:
    linked = {"type": "html", "mimeType": "text/html", "url": "https://b.test/secret", "size": 5_000_000}
    html = unescape(shown({**linked, "expiresIn": 1}))
    assert "text/html, 5,000,000 bytes: get it with chat.content(result)" in html
    assert "secret" not in html


def test_where_there_is_no_html_a_run_is_text() -> None:
    run = Run.of(
        run_told(text("a\n"), result("image", "image/png", "AAAA"), text("b"), error="KeyError: 1", success=False)
    )
    assert run._repr_mimebundle_()["text/plain"] == "a\n<image/png>\nb\nKeyError: 1"
