"""The soak takes honest refusals, and sees what no call may answer and no sandbox may do."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import httpx
import pytest

from soak.asking import Manner, Repeat
from soak.census import GRACE_S, Census
from soak.chat import Chat, Owner
from soak.service import Outages, Service
from soak.tally import Tally

TIMEOUT_S = 60.0
NOTHING: Mapping[str, str] = {}


# ── A chat and its service ──────────────────────────────────────────────────────────────────────────


Handler = Callable[[httpx.Request], httpx.Response]
AT_ONCE = Manner("auto", "never")


def answer(status: int, body: Any, **headers: str) -> Handler:
    """Returns a service that always answers so."""
    return lambda _: httpx.Response(status, json=body, headers=headers)


def problem(slug: str) -> dict[str, str]:
    """Returns the body of a refusal."""
    return {"type": f"urn:sandkeeper:problem:{slug}"}


def cut(request: httpx.Request) -> httpx.Response:
    """Stands for a connection that ends without an answer."""
    raise httpx.ReadError("cut", request=request)


def complaints(
    handler: Handler, *, manner: Manner = AT_ONCE, owner: Owner | None = None, up: bool = True
) -> list[str]:
    """Returns what a chat complains of that runs once."""
    tally, outages = Tally(), Outages()

    async def live() -> None:
        if up:
            outages.up.set()
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="http://api.invalid") as http:
            chat = Chat(
                "c1",
                owner or Owner(cap=1),
                Service(http, "token", outages, tally),
                tally,
                dice=Random(1),  # noqa: S311
                delay_s=0,
                think_s=0,
                session_timeout_s=TIMEOUT_S,
                stop=asyncio.Event(),
            )
            await chat.run(manner)

    # Not `asyncio.run`, which lets go of the thread's own loop, unclosed.
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(live())
    return [violation.what for violation in tally.violations]


@pytest.mark.parametrize(
    "handler",
    [
        answer(409, problem("session-busy"), **{"Retry-After": "2"}),
        answer(503, problem("capacity-exhausted"), **{"Retry-After": "5"}),
    ],
)
def test_honest_refusals_are_no_violation(handler: Handler) -> None:
    assert complaints(handler) == []


@pytest.mark.parametrize(
    ("handler", "what"),
    [
        (answer(500, problem("internal-error")), "500"),
        (answer(503, problem("store-unavailable"), **{"Retry-After": "5"}), "store-unavailable"),
        (answer(409, problem("session-busy")), "Retry-After"),
        (answer(502, {}), "502"),
        (cut, "ReadError"),
    ],
)
def test_what_no_call_may_answer_is_seen(handler: Handler, what: str) -> None:
    assert [complaint for complaint in complaints(handler) if what in complaint] != []


def test_a_connection_that_breaks_while_the_api_is_down_is_no_violation() -> None:
    assert complaints(cut, up=False) == []


def test_a_quota_that_was_not_used_up_refuses_nobody() -> None:
    refusal = answer(429, problem("quota-exceeded"), **{"Retry-After": "60"})
    assert complaints(refusal, owner=Owner(1, {"c2": float("inf")})) == []
    assert complaints(refusal, owner=Owner(1, {"c2": 0.0})) == ["refused for a quota that was not used up"]


def ran(run_id: str = "run-1", **changes: Any) -> dict[str, Any]:
    """Returns what is told of the first run of a chat."""
    snapshot = 'SOAK [["c1-1"], ["c1-1"], {}]\n'
    usual = {
        "executionId": run_id,
        "sandboxId": "sbx1",
        "results": [{"type": "text", "content": snapshot}],
        "error": None,
        "errorDetail": None,
        "session": {"status": "new", "generation": 1, "stateReset": False, "reason": None},
    }
    return usual | changes


LOST = ran(results=[], error="SandboxLost", errorDetail={"kind": "sandbox_lost", "retryable": True})
GOES_ON = {"executionId": "run-1", "state": "running", "statusUrl": "/status"}
REPLAYED = {"Idempotency-Replayed": "true"}


def in_turn(*handlers: Handler) -> Handler:
    """Returns a service that answers each request as the next of these, and those after as the last."""
    left = [*handlers]

    def handle(request: httpx.Request) -> httpx.Response:
        handler = left.pop(0) if len(left) > 1 else left[0]
        return handler(request)

    return handle


def looked_at(**result: Any) -> Handler:
    """Returns a service that tells of a run that has ended."""
    return answer(200, {"state": "ended", "result": ran(**result)})


def test_a_run_that_was_lost_needs_a_cause() -> None:
    assert complaints(answer(200, LOST)) == ["a run was lost, and nobody had done anything to its sandbox"]


def test_a_run_that_goes_on_is_looked_at_until_it_ends() -> None:
    goes_on = answer(200, {"state": "running", "result": None})
    assert complaints(in_turn(answer(202, GOES_ON), goes_on, looked_at())) == []


@pytest.mark.parametrize(
    ("then", "what"),
    [
        ([answer(404, problem("execution-not-found"))], "was accepted, and no result was told"),
        ([looked_at(run_id="run-2")], "another run's result"),
        ([looked_at(), looked_at(sandboxId="sbx2")], "and then another one"),
    ],
)
def test_a_run_that_goes_on_and_is_not_told_once_and_for_all_is_seen(then: list[Handler], what: str) -> None:
    assert what in " ".join(complaints(in_turn(answer(202, GOES_ON), *then)))


def test_a_request_that_was_cut_off_is_sent_again_under_its_key() -> None:
    keys: list[str | None] = []

    def note(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers.get("Idempotency-Key"))
        return cut(request) if len(keys) == 1 else httpx.Response(200, json=ran())

    assert complaints(note, manner=Manner("auto", "if cut"), up=False) == []
    assert keys == ["c1-1", "c1-1"]


@pytest.mark.parametrize("repeat", ["after", "beside"])
def test_a_repeated_request_must_be_the_first_ones(repeat: Repeat) -> None:
    manner = Manner("auto", repeat)
    assert complaints(in_turn(answer(200, ran()), answer(200, ran(), **REPLAYED)), manner=manner) == []
    assert complaints(in_turn(answer(200, ran()), answer(200, ran("run-2"))), manner=manner) != []


# ── Sandboxes ───────────────────────────────────────────────────────────────────────────────────────


def sandbox(sandbox_id: str, started_at: str, state: str = "running", chat: str = "c1") -> dict[str, Any]:
    """Returns a sandbox as its server tells of it."""
    metadata = {"chat": chat, "generation": "1", "claim": sandbox_id}
    return {"sandboxID": sandbox_id, "state": state, "startedAt": started_at, "metadata": metadata}


@pytest.fixture
def census() -> Iterator[Census]:
    """A census that needs no server."""
    yield Census(httpx.AsyncClient(), "http://aws.invalid", Tally())


def test_two_sandboxes_of_a_chat_are_seen_once_the_older_one_stays(census: Census) -> None:
    two = [sandbox("new", "2026-01-02"), sandbox("old", "2026-01-01", "paused")]
    census.look(two, now=0)
    census.look(two, now=GRACE_S - 1)
    assert census.tally.violated == 0
    census.look(two, now=GRACE_S)
    census.look(two, now=GRACE_S * 3)
    assert [violation.what[:3] for violation in census.tally.violations] == ["old"]


def test_sandboxes_of_several_chats_and_ended_ones_are_no_violation(census: Census) -> None:
    three = [
        sandbox("one", "2026-01-01"),
        sandbox("two", "2026-01-02", chat="c2"),
        sandbox("ended", "2026-01-01", "killed"),
    ]
    census.look(three, now=0)
    census.look(three, now=GRACE_S * 2)
    assert (census.tally.violated, census.most_live) == (0, 2)


def test_the_report_says_whether_all_held_and_what_did_not() -> None:
    tally = Tally(finished=True)
    assert "held" in tally.report()
    tally.violate("a run took place twice", "c1", ["1.00 run → 200"])
    assert "BROKEN: 1 violations" in tally.report()
    assert "## c1: a run took place twice" in tally.report()
    assert "    1.00 run → 200" in tally.report()
    assert "did not come to its end" in Tally().report()
