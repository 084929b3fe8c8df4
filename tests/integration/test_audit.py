"""`make audit`: the real pip-audit, which asks a database of vulnerabilities on this machine."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.audit import PINS, ROOT, SERVICE

DIGEST = f"sha256:{'0' * 64}"
VULNERABLE = "leaky"


@dataclass
class Database:
    """Knows of one vulnerability of `leaky` 1.0, as OSV tells it."""

    url: str = ""
    status: int = 200
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, query: dict[str, Any]) -> dict[str, Any]:
        """Returns what is known of the package in the query."""
        name = query["package"]["name"]
        self.asked.append((name, query["version"]))
        if name != VULNERABLE:
            return {}
        package = {"name": name, "ecosystem": "PyPI"}
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}]
        return {
            "vulns": [
                {
                    "id": "PYSEC-2026-1",
                    "published": "2026-01-02T03:04:05Z",
                    "details": "it leaks",
                    "affected": [{"package": package, "ranges": ranges, "versions": ["1.0"]}],
                }
            ]
        }


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._send(database.status, database.answer(query))

        def do_GET(self) -> None:
            self._send(405, {})

        def _send(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        database.url = f"http://127.0.0.1:{server.server_port}/v1/query"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield database
        server.shutdown()
        thread.join()


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    return tmp_path / "requirements.txt"


def audit(service: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.audit", "--service", service, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_known_vulnerability_is_told_and_fails_the_check(database: Database, pins: Path) -> None:
    pins.write_text(f"{VULNERABLE}==1.0 --hash={DIGEST}\nsound==3.1 --hash={DIGEST}\n")

    done = audit(database.url, "--unless-offline", pins)

    assert done.returncode == 1
    assert "leaky" in done.stdout and "PYSEC-2026-1" in done.stdout and "2.0" in done.stdout
    assert sorted(database.asked) == [("leaky", "1.0"), ("sound", "3.1")]


def test_where_nothing_is_known_the_check_holds(database: Database, pins: Path) -> None:
    pins.write_text(f"sound==3.1 --hash={DIGEST}\n")

    done = audit(database.url, pins)

    assert (done.returncode, database.asked) == (0, [("sound", "3.1")])
    assert "No known vulnerabilities" in done.stdout + done.stderr


def test_one_file_that_fails_does_not_keep_others_from_being_looked_at(database: Database, tmp_path: Path) -> None:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text(f"{VULNERABLE}==1.0 --hash={DIGEST}\n")
    second.write_text(f"sound==3.1 --hash={DIGEST}\n")

    assert audit(database.url, first, second).returncode == 1
    assert sorted(database.asked) == [("leaky", "1.0"), ("sound", "3.1")]


def test_a_database_that_fails_is_no_database_that_knows_nothing(database: Database, pins: Path) -> None:
    pins.write_text(f"sound==3.1 --hash={DIGEST}\n")
    database.status = 500

    assert audit(database.url, "--unless-offline", pins).returncode == 1


@pytest.mark.parametrize(("arguments", "returncode"), [((), 1), (("--unless-offline",), 0)])
def test_where_it_cannot_be_reached_that_is_said(pins: Path, arguments: tuple[str, ...], returncode: int) -> None:
    done = audit("http://127.0.0.1:9/v1/query", *arguments, pins)

    assert done.returncode == returncode
    assert "NOT AUDITED: http://127.0.0.1:9/v1/query cannot be reached from here" in done.stderr


def test_all_that_is_shipped_is_looked_up_as_it_is_pinned(database: Database) -> None:
    done = audit(database.url)

    assert done.returncode == 0, done.stderr
    pinned = {
        tuple(line.split(" ")[0].split("==")) for file in PINS for line in (ROOT / file).read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }  # fmt: skip
    assert len(pinned) > 60
    asked = {(name.replace("_", "-").replace(".", "-").lower(), version) for name, version in database.asked}
    assert asked <= {(name.lower(), version) for name, version in pinned}
    assert {"fastapi", "boto3", "e2b", "duckdb", "mcp", "pydantic"} <= {name for name, _ in asked}


def test_the_database_is_one_that_pip_audit_knows() -> None:
    """Its own default for OSV."""
    told = subprocess.run(
        [ROOT / ".envs" / "audit" / "bin" / "pip-audit", "--help"], capture_output=True, text=True, check=True
    )
    assert SERVICE in told.stdout
