"""Runs that nobody attends to: whoever sees the end first records it and gives the session back, once."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.errors import SandboxUnavailable, StoreUnavailable
from sandkeeper.model import EndReason, RunEnd, RunOutcome, Session, Stream
from sandkeeper.runs import Execution
from sandkeeper.services.collect import Collect
from tests.factories import busy, closing, context, ended, opened
from tests.world import CHAT, START, CallerDied, World, told

NO_TIME = timedelta(0)
MINUTE = timedelta(minutes=1)
DONE = RunOutcome([Stream("stdout", "done")], RunEnd.FINISHED)


@pytest.fixture
def collect(world: World) -> Collect:
    """Returns what sees runs to their end."""
    return world.wiring.collect


def left(world: World) -> Session:
    """Returns the row of a session whose run goes on, with nobody who attends to it."""
    world.sandboxes.program = lambda *_: None
    world.run(mode="async")
    return world.row()


def unheard(world: World, *, after_restart: bool = False) -> Session:
    """Returns the row of a session whose run goes on, and whose call died before it had heard of it."""
    world.run()
    if after_restart:
        world.wiring.control.restart(CHAT)
    world.sandboxes.program = lambda *_: None
    world.taps["sandboxes"].die_after("run")
    with pytest.raises(CallerDied):
        world.run()
    world.clock.advance(MINUTE)
    return world.row()


def end(world: World, row: Session, outcome: RunOutcome = DONE) -> None:
    """Lets the run of this session end so."""
    assert row.run_id is not None, "nothing runs"
    world.sandboxes.finish(row.run_id, outcome)


def recorded(world: World, row: Session) -> Execution | None:
    """Returns what the log has of the session's run."""
    assert row.run_id is not None, "nothing runs"
    return world.runs.get(CHAT, row.run_id)


# ── Settling ────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_that_has_ended_is_recorded_and_its_session_is_free(world: World, collect: Collect) -> None:
    row = left(world)
    end(world, row)
    world.clock.advance(MINUTE)

    assert collect.settle(row, NO_TIME) is True

    found = recorded(world, row)
    assert found is not None
    assert found.outcome == DONE
    world.assert_free()
    assert world.row().run_count == 1
    assert world.row().expires_at == world.clock() + 30 * MINUTE
    assert ("run.recorded", {"end": RunEnd.FINISHED, "ms": 0}) in world.journal.notes


def test_a_run_that_goes_on_keeps_its_session_and_its_record_stays_open(world: World, collect: Collect) -> None:
    row = left(world)

    assert collect.settle(row, NO_TIME) is False

    assert world.row() == row
    found = recorded(world, row)
    assert found is not None
    assert found.end is None


def test_a_run_that_was_never_asked_for_gives_its_session_back_and_counts_for_nothing(
    world: World, collect: Collect
) -> None:
    """Its call died between the claim and the order."""
    world.run()
    world.taps["sandboxes"].fail("run", CallerDied())
    with pytest.raises(CallerDied):
        world.run()
    row = world.row()
    assert row.is_busy

    assert collect.settle(row, NO_TIME) is True

    world.assert_free()
    assert (world.row().run_count, recorded(world, row)) == (1, None)


def test_a_sandbox_that_is_gone_gives_the_session_back_to_whoever_looks_into_it(
    world: World, collect: Collect
) -> None:
    row = left(world)
    world.lose_sandbox()

    assert collect.settle(row, NO_TIME) is True

    world.assert_free()
    found = recorded(world, row)
    assert found is not None
    assert found.end is None, "whoever asks for it will find it lost"


def test_a_paused_sandbox_is_woken_to_tell_a_run_that_was_over(world: World, collect: Collect) -> None:
    row = left(world)
    end(world, row)
    world.pause_sandbox()

    assert collect.settle(row, NO_TIME) is True

    found = recorded(world, row)
    assert found is not None
    assert found.outcome == DONE
    world.assert_free()


def test_a_run_that_was_paused_goes_on_when_somebody_wants_its_session(world: World, collect: Collect) -> None:
    row = left(world)
    world.pause_sandbox()

    assert collect.settle(row, NO_TIME) is False

    assert world.row() == row
    assert world.sandboxes.paused == set()


def test_a_sandbox_that_does_not_answer_settles_nothing(world: World, collect: Collect) -> None:
    row = left(world)
    world.taps["sandboxes"].fail("follow", SandboxUnavailable("down"))

    with pytest.raises(SandboxUnavailable):
        collect.settle(row, NO_TIME)

    assert world.row() == row


def test_the_wait_is_the_sandboxs_to_keep(world: World, collect: Collect) -> None:
    row = left(world)
    waits: list[timedelta] = []

    def follow(*_: object, wait: timedelta, **__: object) -> list[object]:
        waits.append(wait)
        return []

    world.taps["sandboxes"].instead["follow"] = follow
    collect.settle(row, timedelta(seconds=2))

    assert waits == [timedelta(seconds=2)]


# ── Concluding ──────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_concluded_once_however_many_have_seen_its_end(world: World, collect: Collect) -> None:
    row = left(world)
    end(world, row)

    for _ in range(3):
        collect.settle(row, NO_TIME)

    assert world.row().run_count == 1
    assert world.events().count("run.recorded") == 1


def test_the_end_that_was_recorded_first_is_the_one(world: World, collect: Collect) -> None:
    world.store.begin(busy(run_until=START), seen=None)

    collect.conclude(world.row(), ended(Stream("stdout", "first")))
    collect.conclude(world.row(), ended(Stream("stdout", "second"), end=RunEnd.SANDBOX_LOST))

    assert world.runs.get(CHAT, "run-1") == ended(Stream("stdout", "first"))
    assert world.row().run_count == 1


def test_a_run_whose_call_attends_to_it_is_recorded_and_its_session_left_to_that_call(
    world: World, collect: Collect
) -> None:
    """It knows what files it has put into the sandbox, and its caller is there to be told."""
    row = busy()
    world.store.begin(row, seen=None)

    collect.conclude(row, ended())

    assert world.runs.get(CHAT, "run-1") == ended()
    assert world.row() == row


def test_a_run_that_has_the_lease_no_more_is_recorded_and_the_lease_left_alone(
    world: World, collect: Collect
) -> None:
    row = busy(run_id="run-2", run_until=START)
    world.store.begin(row, seen=None)

    collect.conclude(row, ended())

    assert world.runs.get(CHAT, "run-1") == ended()
    assert world.row() == row


def test_a_lease_that_has_gone_to_another_run_meanwhile_is_left_alone(world: World, collect: Collect) -> None:
    seen = busy(run_until=START)
    world.store.begin(seen, seen=None)
    world.store.begin(busy(run_id="run-2"), seen=seen)

    collect.conclude(seen, ended())

    assert world.row().run_id == "run-2"


def test_a_run_that_could_not_be_recorded_keeps_its_lease_and_with_it_is_found_again(
    world: World, collect: Collect
) -> None:
    row = left(world)
    end(world, row)
    world.taps["runs"].fail("finish", StoreUnavailable("throttled"))

    with pytest.raises(StoreUnavailable):
        collect.settle(row, NO_TIME)
    assert world.row() == row

    assert collect.settle(row, NO_TIME) is True
    world.assert_free()


def test_files_that_became_ready_meanwhile_stay_fresh(world: World, collect: Collect) -> None:
    row = left(world)
    file = world.add_file("a.csv", b"a")
    end(world, row)

    collect.settle(world.row(), NO_TIME)

    assert world.row().fresh_files == {file.file_id}


# ── What a caller was told who did not live to hear it ──────────────────────────────────────────────


def test_variables_that_were_gone_are_told_to_the_next_who_comes(world: World, collect: Collect) -> None:
    row = unheard(world, after_restart=True)
    end(world, row)

    collect.settle(row, NO_TIME)

    assert world.row().untold is EndReason.RESTARTED
    assert world.row().run_count == 2
    world.sandboxes.program = lambda *_: DONE
    assert [told(world.run()) for _ in range(2)] == [("reused", 1, EndReason.RESTARTED), ("reused", 1, None)]


def test_where_nothing_was_gone_nothing_is_told(world: World, collect: Collect) -> None:
    row = unheard(world)
    end(world, row)

    collect.settle(row, NO_TIME)

    assert (world.row().untold, world.row().run_count) == (None, 2)


def test_a_caller_who_has_the_runs_id_is_told_by_its_record_and_nobody_else(world: World, collect: Collect) -> None:
    world.run()
    world.wiring.control.restart(CHAT)
    row = left(world)
    end(world, row)

    collect.settle(row, NO_TIME)

    assert world.row().untold is None
    found = recorded(world, row)
    assert found is not None
    assert found.reset_reason is EndReason.RESTARTED


def test_a_new_sandbox_stays_new_until_somebody_has_been_told_of_it(world: World, collect: Collect) -> None:
    row = busy(run_until=START, run_count=0, end_reason=EndReason.EXPIRED, generation=2)
    world.store.begin(row, seen=None)
    told_in_vain = replace(ended(), context=context(status="recreated", reason=EndReason.EXPIRED))

    collect.conclude(row, told_in_vain)

    assert (world.row().status, world.row().reset_reason) == ("recreated", EndReason.EXPIRED)


# ── Last words ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_paused", [False, True], ids=["awake", "paused"])
def test_the_last_words_of_a_sandbox_are_its_runs_end(world: World, collect: Collect, is_paused: bool) -> None:
    row = left(world)
    end(world, row)
    if is_paused:
        world.pause_sandbox()

    collect.last_words(row, RunEnd.SANDBOX_LOST)

    found = recorded(world, row)
    assert found is not None
    assert found.outcome == DONE


@pytest.mark.parametrize("last", [RunEnd.CANCELLED, RunEnd.SANDBOX_LOST])
def test_a_run_that_goes_on_ends_with_its_sandbox_and_keeps_what_it_has_put_out(
    world: World, collect: Collect, last: RunEnd
) -> None:
    row = left(world)
    world.clock.advance(MINUTE)

    collect.last_words(row, last)

    found = recorded(world, row)
    assert found is not None
    assert (found.end, found.ended_at) == (last, world.clock())
    assert found.started_at == world.clock() - MINUTE


def test_a_closed_sessions_run_is_told_as_cancelled_and_an_expired_ones_as_lost(world: World) -> None:
    run_id = left(world).run_id or ""
    world.sessions.ending.close(CHAT)
    closed = world.runs.get(CHAT, run_id)

    again = left(world).run_id or ""
    world.clock.advance(2 * 60 * MINUTE)
    world.sessions.ending.expire(CHAT)
    expired = world.runs.get(CHAT, again)

    assert closed is not None
    assert expired is not None
    assert (closed.end, expired.end) == (RunEnd.CANCELLED, RunEnd.SANDBOX_LOST)


def test_a_sandbox_that_is_gone_has_no_last_words(world: World, collect: Collect) -> None:
    row = left(world)
    world.lose_sandbox()

    collect.last_words(row, RunEnd.CANCELLED)

    assert ("run.not_collected", {"error": "SandboxGone"}) in world.journal.notes


@pytest.mark.parametrize("row", [busy(run_id=None), closing(sandbox=None)], ids=["idle", "no sandbox"])
def test_where_nothing_ran_nobody_is_asked(world: World, collect: Collect, row: Session) -> None:
    collect.last_words(row, RunEnd.CANCELLED)

    assert world.calls() == []


@pytest.mark.parametrize(
    ("port", "method", "error"),
    [
        ("sandboxes", "follow", SandboxUnavailable("down")),
        ("sandboxes", "follow", ValueError("no run")),
        ("runs", "finish", StoreUnavailable("throttled")),
    ],
)
def test_whatever_fails_at_that_the_sandbox_is_killed(
    world: World, port: str, method: str, error: Exception
) -> None:
    left(world)
    world.taps[port].fail(method, error)

    assert world.sessions.ending.close(CHAT)

    assert world.sandboxes.alive == {}
    assert ("run.not_collected", {"error": type(error).__name__}) in world.journal.notes


def test_a_run_of_a_lost_session_that_was_opened_is_found_to_be_lost(world: World) -> None:
    world.runs.open(opened())

    found = world.wiring.executions.get(CHAT, "run-1")

    assert found.end is RunEnd.SANDBOX_LOST
    assert world.runs.get(CHAT, "run-1") == found
