"""The page at `/` of the local stack: who gets it, under which policy, and who gets its key."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from local import page

ENVIRONMENT = {"AWS_ENDPOINT_URL": "http://127.0.0.1:8020", "API_KEY": "sk_test"}
HERE = ("127.0.0.1", 50_000)


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """What a build leaves."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "index-abc.js").write_text("run()")
    (tmp_path / "index.html").write_text("<!doctype html>page")
    (tmp_path / "frame.html").write_text("<!doctype html>frame")
    (tmp_path / "figure.html").write_text("<!doctype html>figure")
    return tmp_path


def browser(dist: Path, host: str = "127.0.0.1:8000", address: tuple[str, int] = HERE) -> TestClient:
    """Returns a browser at this address that asks for this host."""
    app = FastAPI()
    page.serve(app, dist, ENVIRONMENT)
    return TestClient(app, base_url=f"http://{host}", client=address)


def directives(policy: str) -> dict[str, list[str]]:
    """Returns what a content policy says, by directive."""
    return {name: values for name, *values in (part.split() for part in policy.split(";"))}


def test_the_page_runs_its_own_scripts_alone_and_reaches_the_api_and_s3_alone(dist: Path) -> None:
    reply = browser(dist).get("/")

    said = directives(reply.headers["content-security-policy"])
    assert reply.text == "<!doctype html>page"
    assert said["default-src"] == ["'none'"]
    assert said["script-src"] == said["style-src"] == ["'self'"]
    assert said["connect-src"] == ["'self'", "http://127.0.0.1:8020"]
    assert said["frame-ancestors"] == ["'none'"]


@pytest.mark.parametrize("path", ["/frame.html", "/figure.html"])
def test_the_frames_have_origins_of_their_own_and_reach_nothing(dist: Path, path: str) -> None:
    said = directives(browser(dist).get(path).headers["content-security-policy"])

    assert said["sandbox"] == ["allow-scripts"]
    assert said["default-src"] == ["'none'"]
    assert "connect-src" not in said


def test_a_browser_keeps_what_is_named_by_its_content_and_asks_again_for_the_rest(dist: Path) -> None:
    caller = browser(dist)

    assert "immutable" in caller.get("/assets/index-abc.js").headers["cache-control"]
    assert caller.get("/").headers["cache-control"] == "no-cache"


def test_a_page_that_is_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    reply = browser(tmp_path).get("/")

    assert reply.status_code == 503
    assert "make web" in reply.text
    assert browser(tmp_path).get("/assets/index-abc.js").status_code == 404


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_a_browser_on_this_machine_gets_the_key(dist: Path, host: str) -> None:
    assert browser(dist, host).get("/config.json").json() == {"apiKey": "sk_test"}


def test_a_browser_elsewhere_gets_no_key(dist: Path) -> None:
    assert browser(dist, "192.0.2.1:8000", ("192.0.2.7", 50_000)).get("/config.json").status_code == 404


def test_a_strangers_name_for_this_machine_gets_no_key(dist: Path) -> None:
    """A page of theirs could read it, once its name has been pointed here."""
    assert browser(dist, "rebound.example").get("/config.json").status_code == 404
