"""A session whose run was left to itself: the next call waits for it or is told at once."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from sandkeeper.errors import SandboxUnavailable, SessionBusy, StoreUnavailable
from sandkeeper.model import EndReason, RunEnd, RunOutcome, SandboxRef, Stream
from sandkeeper.runs import Execution
from sandkeeper.services.sessions import LOOK_S
from tests.world import CHAT, CallerDied, Patience, World, note, told

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DONE = RunOutcome([Stream("stdout", "done")], RunEnd.FINISHED)


def leave(world: World, limit: timedelta = 60 * MINUTE) -> str:
    """Leaves a run that goes on, while other code ends at once; returns its id."""

    def program(where: SandboxRef, code: str) -> RunOutcome | None:
        return None if code == "long" else note([], where, code)

    world.sandboxes.program = program
    return world.run("long", limit=limit).execution.execution_id


def recorded(world: World, run_id: str) -> Execution:
    """Returns what the log has of the run, which must be there."""
    found = world.runs.get(CHAT, run_id)
    assert found is not None, f"{run_id} is not recorded"
    return found


def ask(world: World, run_id: str) -> None:
    """Looks at the run."""
    world.wiring.executions.get(CHAT, run_id)


def cancel(world: World, run_id: str) -> None:
    """Stops the run."""
    world.wiring.executions.cancel(CHAT, run_id)


def finish(world: World, run_id: str) -> None:
    """Lets the run end, and nobody sees it."""
    world.sandboxes.finish(run_id, DONE)


def finish_and_ask(world: World, run_id: str) -> None:
    """Lets the run end, and somebody sees it."""
    finish(world, run_id)
    ask(world, run_id)


# ── The next call ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", [finish, finish_and_ask, cancel])
def test_the_next_call_waits_for_a_run_that_goes_on_and_has_the_session_then(
    world: World, patience: Patience, end: Callable[[World, str], None]
) -> None:
    run_id = leave(world)
    patience.events = [lambda: None, lambda: end(world, run_id)]

    reply = world.run("next")

    assert told(reply) == ("reused", 1, None)
    assert recorded(world, run_id).end is not None
    assert len(patience.slept) == 2
    assert world.row().run_count == 2


def test_it_watches_the_run_and_does_not_sleep_while_it_does(world: World, patience: Patience) -> None:
    run_id = leave(world)
    waits: list[timedelta] = []

    def follow(where: SandboxRef, run_id: str, *, after: int, wait: timedelta) -> object:
        waits.append(wait)
        world.clock.advance(wait)
        if len(waits) == 3:
            finish(world, run_id)
        return world.sandboxes.follow(where, run_id, after=after, wait=wait)

    world.taps["sandboxes"].instead["follow"] = follow

    assert told(world.run("next")) == ("reused", 1, None)
    assert waits == [LOOK_S * SECOND] * 3
    assert max(patience.slept) <= 0.025, "between two looks, hardly at all"
    assert recorded(world, run_id).outcome == DONE


def test_one_that_would_wait_too_long_is_told_that_the_session_is_busy(world: World, patience: Patience) -> None:
    run_id = leave(world)

    with pytest.raises(SessionBusy, match=r"using the session of chat 'chat-1'"):
        world.run("next")

    assert world.row().run_id == run_id
    assert recorded(world, run_id).end is None


def test_one_that_does_not_wait_is_told_at_once(world: World, patience: Patience) -> None:
    leave(world)
    waits: list[timedelta] = []

    def follow(where: SandboxRef, run_id: str, *, after: int, wait: timedelta) -> object:
        waits.append(wait)
        return world.sandboxes.follow(where, run_id, after=after, wait=wait)

    world.taps["sandboxes"].instead["follow"] = follow
    with pytest.raises(SessionBusy):
        world.run("next", on_busy="reject")

    assert (waits, patience.slept) == ([timedelta(0)], [])


def test_one_that_does_not_wait_collects_what_is_over(world: World) -> None:
    run_id = leave(world)
    finish(world, run_id)

    assert told(world.run("next", on_busy="reject")) == ("reused", 1, None)
    assert recorded(world, run_id).outcome == DONE


def test_a_run_whose_call_may_still_be_there_is_left_to_that(world: World) -> None:
    """It reads the end itself, and whoever recorded it in between would take the session from under it."""
    world.run()
    world.taps["sandboxes"].die_after("run")
    with pytest.raises(CallerDied):
        world.run("x")
    world.calls()

    with pytest.raises(SessionBusy):
        world.run("next", on_busy="reject")

    assert world.calls() == ["store.claim"]


def test_a_run_whose_call_has_died_unheard_is_recorded_by_the_next(world: World) -> None:
    world.run()
    world.taps["sandboxes"].die_after("run")
    with pytest.raises(CallerDied):
        world.run("x")
    run_id = world.row().run_id or ""
    world.clock.advance((28 + 15) * SECOND)

    assert told(world.run("next", on_busy="reject")) == ("reused", 1, None)
    assert recorded(world, run_id).outcome.outputs == [Stream("stdout", "x")]


def test_a_run_whose_sandbox_is_gone_makes_nobody_wait(world: World) -> None:
    world.run()
    run_id = leave(world)
    world.lose_sandbox()

    assert told(world.run("next", on_busy="reject")) == ("recreated", 2, EndReason.SANDBOX_LOST)
    assert world.wiring.executions.get(CHAT, run_id).end is RunEnd.SANDBOX_LOST


def test_a_run_that_was_paused_goes_on_and_whoever_wants_the_session_waits_for_it(
    world: World, patience: Patience
) -> None:
    """It has the variables that the next one is to find."""
    run_id = leave(world)
    world.pause_sandbox()
    patience.events = [lambda: finish(world, run_id)]

    assert told(world.run("next")) == ("reused", 1, None)
    assert recorded(world, run_id).outcome == DONE


@pytest.mark.parametrize("error", [SandboxUnavailable("down"), StoreUnavailable("throttled")], ids=repr)
def test_where_nobody_can_tell_whether_it_is_over_the_next_call_is_told_and_the_run_not_lost(
    world: World, error: Exception
) -> None:
    run_id = leave(world)
    finish(world, run_id)
    port, method = ("sandboxes", "follow") if isinstance(error, SandboxUnavailable) else ("runs", "finish")
    world.taps[port].fail(method, error)

    with pytest.raises(type(error)):
        world.run("next")

    assert told(world.run("next")) == ("reused", 1, None)
    assert recorded(world, run_id).outcome == DONE


def test_many_who_wait_record_the_run_once_and_run_one_after_the_other(world: World, patience: Patience) -> None:
    run_id = leave(world)
    patience.events = [lambda: world.run("other", on_busy="reject"), lambda: None]
    finish(world, run_id)

    world.run("next")

    assert world.events().count("run.recorded") == 1


# ── The session's end ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("outcome", "end"), [(DONE, RunEnd.FINISHED), (None, RunEnd.SANDBOX_LOST)], ids=["over", "goes on"]
)
@pytest.mark.parametrize("is_paused", [True, False], ids=["paused", "awake"])
def test_the_run_of_an_expired_session_is_collected_before_a_new_one_begins(
    world: World, outcome: RunOutcome | None, end: RunEnd, is_paused: bool
) -> None:
    run_id = leave(world, limit=SECOND)
    if outcome is not None:
        world.sandboxes.finish(run_id, outcome)
    if is_paused:
        world.pause_sandbox()
    world.clock.advance(30 * MINUTE + SECOND)

    reply = world.run("next")

    assert told(reply) == ("recreated", 2, EndReason.EXPIRED)
    assert recorded(world, run_id).end is end
    world.beside.settle()
    assert world.sandboxes.killed == ["sbx1"]


def test_the_end_of_a_run_begins_the_sessions_timeout_anew(world: World) -> None:
    run_id = leave(world, limit=60 * MINUTE)
    world.clock.advance(50 * MINUTE)
    finish_and_ask(world, run_id)
    world.clock.advance(29 * MINUTE)

    assert told(world.run("next"))[1:] == (1, None)
