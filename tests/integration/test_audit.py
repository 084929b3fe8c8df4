"""`make audit`: the real pip-audit, which asks a database of vulnerabilities on this machine."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.audit import PINS, PIP_AUDIT, SERVICE
from local.project import ROOT
from tests.stand_in import Answer, Asked, answering

DIGEST = f"sha256:{'0' * 64}"
VULNERABLE = "leaky"


@dataclass
class Database:
    """Knows of one vulnerability of `leaky` 1.0, as OSV tells it."""

    url: str = ""
    status: int = 200
    asked: list[tuple[str, str]] = field(default_factory=list)

    def respond(self, asked: Asked) -> Answer:
        """Returns the answer to a request: only what is POSTed is a question."""
        return (
            Answer(self.status, self.known(json.loads(asked.body))) if asked.method == "POST" else Answer(405, {})
        )

    def known(self, query: dict[str, Any]) -> dict[str, Any]:
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
    made = Database()
    with answering(made.respond) as url:
        made.url = f"{url}/v1/query"
        yield made


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
        line for file in PINS for line in (ROOT / file).read_text().splitlines() if re.match(r"[a-z0-9].*==", line)
    }
    everywhere = {_pin(line) for line in pinned if ";" not in line}
    asked = {_pin(f"{name}=={version}") for name, version in database.asked}
    assert len(everywhere) > 60
    assert everywhere <= asked <= {_pin(line) for line in pinned}


def _pin(line: str) -> tuple[str, str]:
    """Returns the normalized name and the version of a pin."""
    name, _, version = re.split(r"[ ;]", line)[0].partition("==")
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower(), version


def test_the_database_is_one_that_pip_audit_knows() -> None:
    """Its own default for OSV."""
    told = subprocess.run([PIP_AUDIT, "--help"], capture_output=True, text=True, check=True)
    assert SERVICE in told.stdout
