"""What gets into logs and metrics, and what never does."""

import json
from typing import Any

import pytest

from sandkeeper.telemetry import LambdaJournal


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What the template sets. Loggers of one service share their output for good: each test has its own."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", request.node.name)
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Sandkeeper")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Returns what has been written, line by line."""
    out, _ = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()]


def test_an_event_is_a_log_line_and_its_numbers_are_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    LambdaJournal().note("run.ended", end="finished", status="reused", ms=12)

    metrics, log = sorted(lines(capsys), key=lambda line: "_aws" not in line)
    assert (log["message"], log["end"], log["status"], log["ms"]) == ("run.ended", "finished", "reused", 12)
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Sandkeeper"
    assert {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]} == {
        "RunEnded": "Count",
        "RunEndedMs": "Milliseconds",
    }
    assert metrics["RunEnded"] == [1.0]
    assert metrics["RunEndedMs"] == [12.0]


def test_events_do_not_run_into_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    journal = LambdaJournal()
    for _ in range(3):
        journal.note("session.created", generation=2)

    counted = [line["SessionCreated"] for line in lines(capsys) if "_aws" in line]
    assert counted == [[1.0]] * 3


def test_an_unexpected_error_is_logged_with_where_it_happened_and_without_its_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(code: str) -> None:
        raise ValueError(code)

    with pytest.raises(ValueError, match="canary") as raised:
        fail("canary of the user's code")

    LambdaJournal().failed(raised.value)

    (line,) = lines(capsys)
    assert (line["level"], line["error"]) == ("ERROR", "ValueError")
    assert "in fail" in line["stack"][-1]
    assert "canary" not in json.dumps(line)
