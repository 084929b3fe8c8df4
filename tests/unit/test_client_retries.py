"""What the Python client tries again, and what it sends once only."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from sandkeeper_client import (
    ConnectionFailed,
    InvalidRequest,
    QuotaExceeded,
    Retries,
    SessionBusy,
    TimedOut,
    Unavailable,
)
from tests.client_service import (
    EXECUTE,
    RUNS,
    Content,
    Service,
    Step,
    accepted,
    ok,
    problem,
    progress,
    run_told,
    text,
)

DONE = run_told(text("42"))

BROKEN = [
    pytest.param(httpx.ConnectError, id="refused"),
    pytest.param(httpx.ReadError, id="broken"),
    pytest.param(httpx.ReadTimeout, id="silent"),
    pytest.param(lambda: httpx.Response(502, text="<html>"), id="502 of a gateway"),
    pytest.param(lambda: httpx.Response(503, json={"message": "Service Unavailable"}), id="503 of a gateway"),
    pytest.param(lambda: httpx.Response(504), id="504 of a gateway"),
    pytest.param(
        lambda: httpx.Response(200, stream=Content(b'{"succ', breaks=True)), id="broken within its answer"
    ),
    pytest.param(lambda: problem(503, "capacity-exhausted", retry_after="5"), id="no room"),
    pytest.param(lambda: problem(409, "session-busy", retry_after="2"), id="busy"),
    pytest.param(lambda: problem(409, "file-not-ready", retry_after="1"), id="file not ready"),
    pytest.param(lambda: problem(429, "quota-exceeded", retry_after="60"), id="at a limit"),
]


@pytest.mark.parametrize("failure", BROKEN)
def test_a_run_is_sent_again_with_its_key_and_body(service: Service, failure: Step) -> None:
    service.will(failure, httpx.ConnectError, ok(DONE))

    assert service.runs("6 * 7").text == "42"

    assert service.asked == [f"POST {EXECUTE}"] * 3
    assert len({request.headers["idempotency-key"] for request in service.heard}) == 1
    assert len({request.content for request in service.heard}) == 1


def test_each_run_has_a_key_of_its_own_unless_its_caller_names_one(service: Service) -> None:
    service.will(ok(DONE), ok(DONE), ok(DONE))
    for options in ({}, {}, {"idempotency_key": "mine"}):
        service.runs(**options)
    first, second, own = (request.headers["idempotency-key"] for request in service.heard)
    assert len({first, second, own}) == 3
    assert own == "mine"


def test_the_service_says_when_to_come_again(service: Service, slept: list[float]) -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    service.will(problem(503, "sandbox-unavailable", retry_after="5"))
    service.will(problem(503, "store-unavailable", retry_after=in_a_minute), ok(DONE))

    service.runs()

    by_number, by_date = slept
    assert 5 <= by_number <= 5.5
    assert 55 < by_date <= 66


def test_where_it_does_not_the_pauses_grow(service: Service, slept: list[float]) -> None:
    service.will(*[httpx.ReadError] * 7, ok(DONE))
    service.runs()
    longest = [0.25, 0.5, 1, 2, 4, 8, 8]
    assert all(most / 2 <= pause <= most for pause, most in zip(slept, longest, strict=True))


def test_after_so_many_attempts_the_last_failure_is_raised(service: Service) -> None:
    service.retries = Retries(attempts=3)
    service.will(*[httpx.ReadTimeout] * 3)
    with pytest.raises(ConnectionFailed, match=r"in 3 attempts.*ReadTimeout"):
        service.runs()

    service.will(*[problem(503, "capacity-exhausted", retry_after="1") for _ in range(3)])
    with pytest.raises(Unavailable) as raised:
        service.runs()
    assert (raised.value.slug, raised.value.retry_after) == ("capacity-exhausted", 1)
    assert len(service.heard) == 6


def test_a_wait_that_is_longer_than_there_is_time_is_not_begun(service: Service, slept: list[float]) -> None:
    service.retries = Retries(within_s=30)
    service.will(problem(429, "quota-exceeded", retry_after="60"))
    with pytest.raises(QuotaExceeded):
        service.runs()
    assert slept == []


def test_who_would_not_wait_for_a_session_is_told_at_once(service: Service) -> None:
    service.will(problem(409, "session-busy", retry_after="2"))
    with pytest.raises(SessionBusy, match=r"409 session-busy: it is session-busy \(request req-1\)"):
        service.runs(on_busy="reject")
    assert service.bodies()[0]["onBusy"] == "reject"


def test_a_request_that_breaks_a_rule_is_sent_once_and_tells_the_fields(service: Service) -> None:
    service.will(problem(422, "invalid-request", errors=[{"pointer": "/timeoutMs", "detail": "too long"}]))
    with pytest.raises(InvalidRequest) as raised:
        service.runs(timeout=90_000)
    (field,) = raised.value.errors
    assert (field.pointer, raised.value.status, raised.value.request_id) == ("/timeoutMs", 422, "req-1")


ONCE: list[Any] = [
    pytest.param(lambda chat: chat.restart(), id="restart"),
    pytest.param(lambda chat: chat.interrupt(), id="interrupt"),
    pytest.param(lambda chat: chat.upload(b"a\n1\n", name="a.csv"), id="upload"),
]


@pytest.mark.parametrize("act", ONCE)
@pytest.mark.parametrize("failure", [httpx.ReadError, lambda: httpx.Response(502)], ids=["broken", "502"])
def test_what_would_do_another_thing_is_not_sent_again_if_it_may_have_been_heard(
    service: Service, act: Callable[[Any], Any], failure: Step
) -> None:
    service.will(failure)
    with pytest.raises((ConnectionFailed, Unavailable)):
        service.chat_does(act)
    assert len(service.heard) == 1


@pytest.mark.parametrize(
    "failure",
    [httpx.ConnectError, lambda: problem(503, "store-unavailable", retry_after="2")],
    ids=["unsent", "503"],
)
def test_it_is_sent_again_if_it_surely_was_not_or_was_refused(service: Service, failure: Step) -> None:
    service.will(failure, ok({"interrupted": True}))
    assert service.chat_does(lambda chat: chat.interrupt()) is True


# ── Runs that go on ─────────────────────────────────────────────────────────────────────────────────────


def test_a_202_is_followed_to_its_end_while_the_service_comes_and_goes(service: Service) -> None:
    service.will(accepted(), progress(), httpx.ReadError, httpx.ConnectError, httpx.Response(503), progress(DONE))

    run = service.runs("6 * 7", include=["outputs", "model"])

    assert run.text == "42"
    assert service.asked == [f"POST {EXECUTE}", *[f"GET {RUNS}/run"] * 5]
    for request in service.heard[1:]:
        assert request.url.params.get_list("include") == ["model", "outputs"]
        assert request.url.params["waitMs"] == "20000"


def test_a_run_that_is_begun_is_had_at_once_and_waited_for_by_its_id(service: Service) -> None:
    service.will(accepted(), progress(), progress(DONE))
    execution = service.chat_does(lambda chat: chat.start("6 * 7", timeout=90))
    assert service.bodies() == [
        {"chatId": "c", "code": "6 * 7", "mode": "async", "include": [], "onBusy": "wait", "timeoutMs": 90_000}
    ]

    assert service.chat_does(lambda chat: chat.execution(execution.id).wait()).text == "42"


def test_waiting_ends_in_time_and_the_run_goes_on(service: Service) -> None:
    service.will(progress())
    with pytest.raises(TimedOut, match="it goes on"):
        service.chat_does(lambda chat: chat.execution("run").wait(0))


def test_a_cancelled_run_is_had_with_what_it_put_out(service: Service) -> None:
    service.will(httpx.ReadError, progress(run_told(text("half"), success=False)))
    run = service.chat_does(lambda chat: chat.execution("run").cancel())
    assert (run.success, run.text) == (False, "half")
    assert service.asked == [f"POST {RUNS}/run/cancel"] * 2
