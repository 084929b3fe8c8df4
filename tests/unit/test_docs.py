"""What the README and the docs say is so."""

import re
from pathlib import Path

import pytest

from sandkeeper.http.problems import HTTP_SLUGS, STATUS_AND_SLUG
from sandkeeper.mcp.tools import TOOLS
from sandkeeper.settings import ApiSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_every_make_target_that_the_readme_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets


def test_every_setting_of_the_api_is_in_the_readme() -> None:
    named = set(re.findall(r"`([A-Z0-9_]+)`", README))
    given_by_the_template = {"TABLE_NAME", "BUCKET_NAME", "STACK_NAME"}
    assert {name.upper() for name in ApiSettings.model_fields} - given_by_the_template <= named


def test_every_tool_of_mcp_is_told() -> None:
    told = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "mcp.md").read_text()))
    assert set(TOOLS) <= told


def test_every_problem_is_explained() -> None:
    explained = set(re.findall(r"`([a-z-]+)`", (ROOT / "docs" / "problems.md").read_text()))
    assert {slug for _, slug in STATUS_AND_SLUG.values()} | set(HTTP_SLUGS.values()) <= explained
