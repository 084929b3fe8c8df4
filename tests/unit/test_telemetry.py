"""What gets into logs and metrics, and what never does."""

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from sandkeeper import log_context
from sandkeeper.errors import NotConfigured
from sandkeeper.log_context import Threads, hash_of
from sandkeeper.model import ChatKey
from sandkeeper.telemetry import LambdaJournal
from tests.world import CHAT


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


def test_a_deployment_that_lacks_something_is_told_what(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody reads the replies of functions that no HTTP request reaches."""
    LambdaJournal().failed(NotConfigured("set E2B_API_KEY"))

    (line,) = lines(capsys)
    assert (line["error"], line["detail"]) == ("NotConfigured", "set E2B_API_KEY")


def test_a_call_is_one_line_and_no_metric(capsys: pytest.CaptureFixture[str]) -> None:
    """The gateway counts calls already, and each metric is paid for."""
    LambdaJournal().answered("GET", "/api/sessions", 200, 12)

    (line,) = lines(capsys)
    assert (line["message"], line["method"], line["route"]) == ("call.answered", "GET", "/api/sessions")
    assert (line["status"], line["ms"]) == (200, 12)


# ── What lines tell of their call ───────────────────────────────────────────────────────────────────


def told_in(thread: Threads, do: Callable[[], object] = lambda: None) -> dict[str, str]:
    """Returns what a line of a thread would tell, after it has done something."""
    return dict(thread.submit(lambda: (do(), log_context.told())[1]).result(timeout=10))


def test_lines_of_threads_tell_of_the_call_that_they_work_for() -> None:
    with Threads(1) as threads:
        log_context.begin(request_id="one")
        log_context.add_chat(CHAT)
        first = told_in(threads)
        log_context.begin(request_id="two")
        second = told_in(threads)

    assert first == {"request_id": "one", "owner_hash": hash_of(CHAT.owner), "chat_hash": hash_of(CHAT.chat_id)}
    assert second == {"request_id": "two"}


def test_what_a_thread_finds_out_of_the_call_is_told_by_all_its_lines() -> None:
    log_context.begin(request_id="one")
    with Threads(1) as threads:
        told_in(threads, lambda: log_context.add_owner("alice"))

    assert log_context.told() == {"request_id": "one", "owner_hash": hash_of("alice")}


def test_chats_that_one_call_is_about_are_told_apart() -> None:
    log_context.begin(request_id="one")
    with Threads(1) as threads:
        chats = [
            told_in(threads, partial(log_context.begin_chat, ChatKey("alice", name)))["chat_hash"]
            for name in ("a", "b")
        ]

    assert chats == [hash_of("a"), hash_of("b")]
    assert log_context.told() == {"request_id": "one"}


def test_a_name_is_known_by_what_everybody_can_work_out() -> None:
    assert hash_of("chat-1") == "eaeb9111b1c6"


def test_libraries_say_what_is_wrong_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger().setLevel(logging.DEBUG)  # as Lambda does for a stack whose LogLevel is that
    log_context.quieten_libraries()
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logging.getLogger("httpx").log(level, "said")

    assert [record.levelname for record in caplog.records] == ["WARNING"]
