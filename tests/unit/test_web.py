"""What the page is built from, and which policies its frames have where nobody sends them."""

import json
import re
from pathlib import Path
from typing import Any

from local.page import FRAME_POLICY

WEB = Path(__file__).parents[2] / "web"
SENT_ALONE = {"sandbox", "frame-ancestors"}
"""Directives that a document cannot give itself."""


def read(name: str) -> dict[str, Any]:
    """Returns a file of JSON."""
    content: dict[str, Any] = json.loads((WEB / name).read_text())
    return content


def test_the_lock_file_says_which_packages_and_not_where_from() -> None:
    packages = read("package-lock.json")["packages"]

    assert [name for name, package in packages.items() if "://" in package.get("resolved", "")] == []
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []


def test_the_page_names_its_packages_exactly() -> None:
    manifest = read("package.json")
    versions = {**manifest["dependencies"], **manifest["devDependencies"]}

    assert [
        name for name, version in versions.items() if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version)
    ] == []


def test_the_frame_for_html_gives_itself_the_policy_that_is_sent_with_it() -> None:
    (own,) = re.findall(r'content="(default-src[^"]+)"', (WEB / "public" / "frame.html").read_text())

    sent = [part.strip() for part in FRAME_POLICY.split(";")]
    assert own.split("; ") == [part for part in sent if part.split()[0] not in SENT_ALONE]
