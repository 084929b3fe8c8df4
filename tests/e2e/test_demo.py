"""`make demo`: the main job from start to end on real servers, and its failure when an answer is wrong."""

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

from local import demo
from local.project import ROOT, SAMPLE
from local.settings import Settings
from tests.local_command import LocalCommand, local_command

STEPS = ["·", *map(str, range(1, 16))]
"""How what was done is numbered, after the start."""


@pytest.fixture
def local() -> Iterator[LocalCommand]:
    with local_command() as command:
        yield command


def test_the_demo_passes_and_leaves_nothing_but_its_output(local: LocalCommand) -> None:
    with local.started("demo", NO_COLOR="1") as process:
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert [line.split()[1] for line in output.splitlines() if line.startswith("✔")] == STEPS
    assert "average salary 83666.67" in output
    assert (ROOT / "demo-output" / "salaries.png").read_bytes().startswith(demo.PNG)
    assert (ROOT / "demo-output" / "report.xlsx").read_bytes().startswith(demo.ZIP)
    nbformat.validate(json.loads((ROOT / "demo-output" / "chat.ipynb").read_text()))
    local.assert_nothing_is_left()


def test_the_demo_fails_loudly_on_a_table_that_is_not_the_expected_one(tmp_path: Path) -> None:
    shorter = tmp_path / "employee_data.csv"
    shorter.write_text("".join(SAMPLE.read_text().splitlines(keepends=True)[:-1]))
    paper = StringIO()
    code = demo.run(Settings(), Console(file=paper), tmp_path / "logs", shorter, tmp_path)
    assert code == 1
    verdict = paper.getvalue()[paper.getvalue().index("✘") :].split()
    assert verdict[1:3] == ["step", "2,"]
    assert "15" in verdict
    assert "14" in verdict
