"""The soak believes what it is told, and sees what contradicts it."""

import asyncio
import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from soak.asking import Manner, Repeat
from soak.census import GRACE_S, Census
from soak.chat import Chat, Owner
from soak.program import program, snapshot_of
from soak.service import Outages, Service
from soak.tally import Tally
from soak.truth import Snapshot, Told, Truth

TIMEOUT_S = 60.0
NOTHING: Mapping[str, str] = {}


def shown(*ids: str, lines: tuple[str, ...] | None = None, files: Mapping[str, str] = NOTHING) -> Snapshot:
    """Returns what a run showed; the file has the same as the variable unless told."""
    return Snapshot(variable=ids, lines=ids if lines is None else lines, files=files)


def told(run_id: str, snapshot: Snapshot | None, *, at: float = 10.0, **changes: Any) -> Told:
    """Returns a reply of the first generation's sandbox, in use before."""
    values: dict[str, Any] = {
        "status": "reused",
        "generation": 1,
        "state_reset": False,
        "reason": None,
        "sandbox_id": f"sbx{changes.get('generation', 1)}",
        "sent_at": at - 0.1,
        "used_at": at,
    }
    return Told(**values | {"run_id": run_id, "snapshot": snapshot, "at": at} | changes)


def recreated(
    run_id: str, snapshot: Snapshot | None, reason: str, *, at: float = 10.0, generation: int = 2
) -> Told:
    """Returns a reply that tells of a loss."""
    changes: dict[str, Any] = {"status": "recreated", "state_reset": True, "reason": reason}
    return told(run_id, snapshot, at=at, generation=generation, **changes)


@pytest.fixture
def truth() -> Truth:
    """A chat that has run `a`, told at second 10."""
    made = Truth(TIMEOUT_S)
    assert made.heard(told("a", shown("a"), status="new")) == []
    return made


def test_a_state_that_grows_by_each_run_is_right(truth: Truth) -> None:
    assert truth.heard(told("b", shown("a", "b"))) == []
    assert truth.heard(told("c", shown("a", "b", "c"), status="resumed")) == []


def test_a_run_that_took_place_twice_is_seen(truth: Truth) -> None:
    assert "twice" in " ".join(truth.heard(told("b", shown("a", "b", "b"))))


def test_a_run_that_took_place_twice_in_the_file_alone_is_seen(truth: Truth) -> None:
    assert "twice" in " ".join(truth.heard(told("b", shown("a", "b", lines=("a", "b", "b")))))


@pytest.mark.parametrize("ids", [("b",), ("x", "a", "b"), ("a", "x", "b"), ("a",), ()])
def test_state_that_is_lost_changed_or_not_there_is_seen(truth: Truth, ids: tuple[str, ...]) -> None:
    assert truth.heard(told("b", shown(*ids))) != []


def test_a_run_that_was_refused_must_not_show_later(truth: Truth) -> None:
    assert "refused" in " ".join(truth.heard(told("c", shown("a", "b", "c"))))


def test_a_run_of_unknown_end_may_have_taken_place_or_not(truth: Truth) -> None:
    truth.unknown("b")
    truth.unknown("c")
    assert truth.heard(told("d", shown("a", "c", "d"))) == []
    assert truth.heard(told("e", shown("a", "c", "d", "b", "e"))) != [], "b showed too late"


def test_a_run_under_way_beside_another_may_come_after_it(truth: Truth) -> None:
    truth.unknown("b")
    assert truth.heard(told("c", shown("a", "c")), beside=frozenset({"b"})) == []
    assert truth.heard(told("d", shown("a", "c", "b", "d"))) == []


def test_a_reply_without_output_leaves_open_whether_the_run_took_place(truth: Truth) -> None:
    assert truth.heard(told("b", None)) == []
    assert truth.heard(told("c", shown("a", "b", "c"))) == []


def test_a_loss_that_was_told_is_right(truth: Truth) -> None:
    truth.lost_at = 11
    assert truth.heard(recreated("b", shown("b"), "sandbox_lost", at=12)) == []
    assert truth.heard(recreated("c", shown("c"), "expired", at=80, generation=3)) == []


def test_state_of_before_a_told_loss_must_be_gone(truth: Truth) -> None:
    truth.lost_at = 11
    assert truth.heard(recreated("b", shown("a", "b"), "sandbox_lost", at=12)) != []


def test_a_loss_that_nobody_caused_is_seen(truth: Truth) -> None:
    assert "nobody" in " ".join(truth.heard(recreated("b", shown("b"), "sandbox_lost", at=12)))


def test_an_expiry_before_its_time_is_seen(truth: Truth) -> None:
    assert "before its time" in " ".join(truth.heard(recreated("b", shown("b"), "expired", at=60)))


def test_an_expiry_counts_from_when_the_session_was_used_and_not_from_when_that_was_told(truth: Truth) -> None:
    assert truth.heard(told("b", shown("a", "b"), at=50, used_at=20)) == []
    assert truth.heard(recreated("c", shown("c"), "expired", at=81)) == []


def test_a_silent_loss_in_a_new_generation_is_seen(truth: Truth) -> None:
    assert truth.heard(told("b", shown("b"), generation=2)) != []


def test_a_loss_may_have_been_told_in_an_answer_that_was_lost(truth: Truth) -> None:
    truth.unknown("b")
    assert truth.heard(told("c", shown("b", "c"), generation=2)) == []


def test_a_lost_answer_excuses_nothing_when_its_run_did_not_take_place(truth: Truth) -> None:
    truth.unknown("b")
    assert "no answer told of it" in " ".join(truth.heard(told("c", shown("c"), generation=2)))


def test_a_new_session_needs_somebody_who_closed_the_old_one(truth: Truth) -> None:
    assert truth.heard(told("b", shown("b"), status="new", generation=2)) != []
    truth.closed = "maybe"
    assert truth.heard(told("c", shown("c"), status="new", generation=3)) == []


def test_a_closed_session_must_not_go_on(truth: Truth) -> None:
    truth.closed = "yes"
    assert "closed" in " ".join(truth.heard(told("b", shown("a", "b"))))


def test_a_kernel_that_an_interrupt_ended_must_be_told(truth: Truth) -> None:
    assert truth.heard(told("b", shown("a", "b"), was_interrupted=True)) == []
    reset: dict[str, Any] = {"state_reset": True, "reason": "kernel_died"}
    assert truth.heard(told("c", shown("c", lines=("a", "b", "c")), **reset)) == []
    assert "nobody was the cause" in " ".join(
        truth.heard(told("d", shown("d", lines=("a", "b", "c", "d")), **reset))
    )


def test_a_kernel_that_an_interrupt_ended_without_a_word_is_seen(truth: Truth) -> None:
    assert truth.heard(told("b", None, was_interrupted=True)) == []
    assert "nobody told of" in " ".join(truth.heard(told("c", shown("c", lines=("a", "b", "c")))))


def test_a_kernels_end_may_have_been_told_in_an_answer_that_was_lost_if_its_run_took_place(truth: Truth) -> None:
    truth.unknown("b")
    truth.interrupted = True
    assert truth.heard(told("c", shown("b", "c", lines=("a", "b", "c")))) == []
    truth.unknown("d")
    truth.interrupted = True
    assert "no answer told of it" in " ".join(truth.heard(told("e", shown("e", lines=("a", "b", "c", "e")))))


def test_a_lost_answer_alone_ends_no_kernel(truth: Truth) -> None:
    truth.unknown("b")
    assert "nobody told of" in " ".join(truth.heard(told("c", shown("b", "c", lines=("a", "b", "c")))))


@pytest.mark.parametrize(("reason", "cause"), [("restarted", "interrupted"), ("kernel_died", "restarted")])
def test_a_reset_has_the_reason_of_its_own_cause(truth: Truth, reason: str, cause: str) -> None:
    truth.interrupted, truth.restarted = cause == "interrupted", "yes" if cause == "restarted" else "no"
    answer = told("b", shown("b", lines=("a", "b")), state_reset=True, reason=reason)
    assert "nobody was the cause" in " ".join(truth.heard(answer))


def test_a_restart_takes_the_variables_and_leaves_the_files(truth: Truth) -> None:
    truth.restarted = "yes"
    assert truth.heard(told("b", shown("b", lines=("a", "b")), state_reset=True, reason="restarted")) == []
    assert truth.heard(told("c", shown("b", "c", lines=("a", "b", "c")))) == []


def test_a_restart_that_nobody_is_told_of_is_seen(truth: Truth) -> None:
    truth.restarted = "yes"
    assert truth.heard(told("b", shown("b", lines=("a", "b")))) != []


def test_a_restart_that_took_no_variables_is_seen(truth: Truth) -> None:
    truth.restarted = "yes"
    assert truth.heard(told("b", shown("a", "b"), state_reset=True, reason="restarted")) != []


@pytest.mark.parametrize("ids", [("b",), ("a", "b")])
def test_a_restart_that_may_have_failed_is_told_either_way(truth: Truth, ids: tuple[str, ...]) -> None:
    truth.restarted = "maybe"
    snapshot = shown(*ids, lines=("a", "b"))
    assert truth.heard(told("b", snapshot, state_reset=True, reason="restarted")) == []


def test_a_restart_that_nobody_asked_for_is_seen(truth: Truth) -> None:
    assert truth.heard(told("b", shown("b", lines=("a", "b")), state_reset=True, reason="restarted")) != []


def test_a_generation_never_falls_and_has_one_sandbox(truth: Truth) -> None:
    assert "two sandboxes" in " ".join(truth.heard(told("b", shown("a", "b"), sandbox_id="other")))
    truth.lost_at = 11
    truth.heard(recreated("c", shown("c"), "sandbox_lost", at=12))
    assert "fell" in " ".join(truth.heard(told("d", shown("a", "b", "d"))))


@pytest.mark.parametrize("found", [{}, {"/home/user/up.csv": "other"}])
def test_a_file_that_is_missing_or_another_is_seen(truth: Truth, found: Mapping[str, str]) -> None:
    truth.files["/home/user/up.csv"] = "digest"
    assert truth.heard(told("b", shown("a", "b", files={"/home/user/up.csv": "digest"}))) == []
    assert truth.heard(told("c", shown("a", "b", "c", files=found))) != []


def test_the_program_adds_its_id_to_its_state_and_shows_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "up-1.csv").write_text("n\n1\n")
    kernel: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program("a", home=str(tmp_path)), kernel)  # noqa: S102 - it is ours
        printed.truncate(printed.seek(0))
        exec(program("b", home=str(tmp_path)), kernel)  # noqa: S102
    snapshot = snapshot_of([{"type": "text", "content": printed.getvalue()}])
    assert snapshot is not None
    assert (snapshot.variable, snapshot.lines) == (("a", "b"), ("a", "b"))
    assert [*snapshot.files] == [str(tmp_path / "up-1.csv")]


@pytest.mark.parametrize("text", ["", "SOAK [[", 'SOAK [["a"], ["a"], {}]'])
def test_a_line_that_was_cut_shows_nothing(text: str) -> None:
    assert snapshot_of([{"type": "text", "content": text}]) is None


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
