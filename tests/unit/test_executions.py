"""Looking at a run from anywhere: what has ended is in the log, what goes on is asked of its sandbox."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.errors import ExecutionNotFound, SandboxUnavailable, SessionBusy
from sandkeeper.model import ChatKey, RunEnd, RunOutcome, SandboxRef, Stream
from sandkeeper.runs import Cancelled, Ended, Execution, RunEvent
from sandkeeper.services.executions import Executions
from tests.factories import busy, context, ended, opened
from tests.world import CHAT, CallerDied, World

NO_TIME = timedelta(0)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DONE = RunOutcome([Stream("stdout", "done")], RunEnd.FINISHED)


@pytest.fixture
def executions(world: World) -> Executions:
    """Returns what looks at runs."""
    return world.wiring.executions


def begin(world: World, outcome: RunOutcome | None = None) -> str:
    """Begins a run that ends so, or goes on, and returns its id."""
    world.sandboxes.program = lambda *_: outcome
    return world.run(mode="async").execution.execution_id


def begin_unheard(world: World, outcome: RunOutcome | None = None) -> str:
    """The same, but its caller has died, and the log knows nothing of the run."""
    world.run()
    world.sandboxes.program = lambda *_: outcome
    world.taps["sandboxes"].die_after("run")
    with pytest.raises(CallerDied):
        world.run()
    run_id = world.row().run_id
    assert run_id is not None
    assert world.runs.get(CHAT, run_id) is None
    world.clock.advance(MINUTE)
    return run_id


# ── Getting ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_that_has_ended_is_told_by_the_log_alone(world: World, executions: Executions) -> None:
    run_id = begin(world, DONE)
    world.sessions.ending.close(CHAT)
    world.calls()

    assert executions.get(CHAT, run_id).outcome == DONE
    assert world.calls() == ["runs.get"]


def test_a_run_that_goes_on_is_told_by_its_sandbox(world: World, executions: Executions) -> None:
    run_id = begin(world)

    found = executions.get(CHAT, run_id)

    assert (found.end, found.execution_id, len(found.events)) == (None, run_id, 2)


@pytest.mark.parametrize("start", [begin, begin_unheard])
def test_whoever_sees_a_run_end_records_it_and_gives_its_session_back(
    world: World, executions: Executions, start: Callable[[World], str]
) -> None:
    run_id = start(world)
    world.sandboxes.finish(run_id, DONE)

    assert executions.get(CHAT, run_id).outcome == DONE

    world.assert_free()
    recorded = world.runs.get(CHAT, run_id)
    assert recorded is not None
    assert recorded.outcome == DONE


def test_whoever_sees_a_run_end_before_its_own_call_does_leaves_the_session_to_that_call(
    world: World, executions: Executions
) -> None:
    file = world.add_file("a.csv", b"a")
    ends: list[RunEnd | None] = []

    def program(_: SandboxRef, __: str) -> None:
        run_id = world.row().run_id or ""
        world.sandboxes.finish(run_id, DONE)
        ends.append(executions.get(CHAT, run_id).end)

    world.sandboxes.program = program
    reply = world.run()

    assert (ends, reply.execution.outcome) == ([RunEnd.FINISHED], DONE)
    assert (world.row().run_count, world.row().hydrated) == (1, {file.file_id: file.path})
    world.assert_free()


def test_an_earlier_run_of_which_only_the_sandbox_knows_is_told_and_the_one_after_it_left_alone(
    world: World, executions: Executions
) -> None:
    """It could not be recorded when it ended."""
    world.taps["runs"].fail("finish", SandboxUnavailable("throttled"))
    run_id = world.run("x").execution.execution_id
    later = begin(world)

    assert executions.get(CHAT, run_id).outcome.outputs == [Stream("stdout", "x")]
    assert world.row().run_id == later


@pytest.mark.parametrize("run_id", ["run-1", "01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"])
def test_a_run_that_nobody_knows_is_not_found(world: World, executions: Executions, run_id: str) -> None:
    for arrange in (lambda: None, world.run, lambda: world.sessions.ending.close(CHAT)):
        arrange()
        with pytest.raises(ExecutionNotFound, match=f"'chat-1' has no execution '{run_id}'"):
            executions.get(CHAT, run_id)


def test_a_run_of_another_chat_or_owner_is_not_found(world: World, executions: Executions) -> None:
    run_id = begin(world, DONE)

    for key in (replace(CHAT, chat_id="chat-2"), ChatKey("bob", CHAT.chat_id)):
        world.run(key=key)
        with pytest.raises(ExecutionNotFound):
            executions.get(key, run_id)


def test_a_paused_sandbox_is_not_woken_because_somebody_guesses(world: World, executions: Executions) -> None:
    world.run()
    world.pause_sandbox()
    world.clock.advance(6 * MINUTE)
    world.calls()

    with pytest.raises(ExecutionNotFound):
        executions.get(CHAT, "01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z")

    assert not [call for call in world.calls() if call.startswith("sandboxes.")]


@pytest.mark.parametrize("start", [begin, begin_unheard])
def test_a_paused_sandbox_is_woken_for_a_run_of_its_own(
    world: World, executions: Executions, start: Callable[[World], str]
) -> None:
    run_id = start(world)
    world.sandboxes.finish(run_id, DONE)
    world.pause_sandbox()
    world.clock.advance(6 * MINUTE)

    assert executions.get(CHAT, run_id).outcome == DONE
    assert world.sandboxes.paused == set()
    world.assert_free()


@pytest.mark.parametrize(
    "lose",
    [World.lose_sandbox, lambda world: (world.lose_sandbox(), world.run())],
    ids=["its sandbox is gone", "another has taken its place"],
)
def test_a_run_that_went_with_its_sandbox_is_lost_for_good(
    world: World, executions: Executions, lose: Callable[[World], object]
) -> None:
    run_id = begin(world)
    world.sandboxes.program = lambda *_: DONE
    lose(world)

    found = executions.get(CHAT, run_id)

    assert found.end is RunEnd.SANDBOX_LOST
    assert world.runs.get(CHAT, run_id) == found
    world.assert_free()


def test_a_sandbox_that_does_not_answer_is_told_and_loses_nothing(world: World, executions: Executions) -> None:
    run_id = begin(world)
    world.taps["sandboxes"].fail("follow", SandboxUnavailable("down"))

    with pytest.raises(SandboxUnavailable):
        executions.get(CHAT, run_id)

    assert executions.get(CHAT, run_id).end is None


def test_a_run_that_is_about_to_begin_is_told_as_going_on(world: World, executions: Executions) -> None:
    world.sandboxes.alive["sbx1"] = {}
    world.store.begin(busy(), seen=None)
    world.runs.open(opened())

    assert executions.get(CHAT, "run-1") == opened()


def test_a_run_that_was_to_begin_and_whose_call_is_no_more_is_lost(world: World, executions: Executions) -> None:
    world.sandboxes.alive["sbx1"] = {}
    world.store.begin(busy(), seen=None)
    world.runs.open(opened())
    world.clock.advance(MINUTE)

    assert executions.get(CHAT, "run-1").end is RunEnd.SANDBOX_LOST
    world.assert_free()


def test_of_two_who_see_a_run_end_differently_the_first_is_believed(world: World, executions: Executions) -> None:
    world.runs.open(opened(context=context(claim_id="gone")))
    finish = world.runs.finish

    def be_slower(_: Execution) -> bool:
        finish(ended())
        return False

    world.taps["runs"].instead["finish"] = be_slower

    assert executions.get(CHAT, "run-1") == ended()


# ── Following ───────────────────────────────────────────────────────────────────────────────────────


def numbers(executions: Executions, run_id: str, after: int = 0) -> list[int]:
    """Returns the numbers of what whoever follows the run hears."""
    known = executions.get(CHAT, run_id)
    return [event.number for event in executions.follow(known, after=after, wait=SECOND)]


@pytest.mark.parametrize("after", [0, 2, 4, 9])
def test_a_run_that_has_ended_is_followed_from_the_log(world: World, executions: Executions, after: int) -> None:
    run_id = begin(world, DONE)
    world.lose_sandbox()

    assert numbers(executions, run_id, after) == [1, 2, 3, 4][after:]


def test_a_run_that_ends_while_it_is_followed_is_recorded(world: World, executions: Executions) -> None:
    run_id = begin(world)
    known = executions.get(CHAT, run_id)
    follow = executions.follow(known, after=1, wait=SECOND)
    world.sandboxes.finish(run_id, DONE)

    for event in follow:
        if isinstance(event.what, Ended):
            world.assert_free()
            recorded = world.runs.get(CHAT, run_id)
            assert recorded is not None
            assert recorded.outcome == DONE, "before anybody hears of it"
            return
    pytest.fail("it has no end")


@pytest.mark.parametrize("after", [0, 2])
def test_a_run_that_is_lost_while_it_is_followed_ends_as_that(
    world: World, executions: Executions, after: int
) -> None:
    run_id = begin(world)
    known = executions.get(CHAT, run_id)
    world.lose_sandbox()

    last = [*executions.follow(known, after=after, wait=SECOND)][-1]

    assert last.what == Ended(RunEnd.SANDBOX_LOST)


def test_a_run_whose_session_ends_while_it_is_followed_is_told_to_its_end(
    world: World, executions: Executions
) -> None:
    run_id = begin(world)
    known = executions.get(CHAT, run_id)
    world.sessions.ending.close(CHAT)

    assert [*executions.follow(known, after=2, wait=SECOND)][-1].what == Ended(RunEnd.CANCELLED)


def test_a_sandbox_that_breaks_off_is_told_after_what_there_was(world: World, executions: Executions) -> None:
    run_id = begin(world)
    known = executions.get(CHAT, run_id)

    def break_off(where: SandboxRef, run_id: str, *, after: int, wait: timedelta) -> Iterator[RunEvent]:
        yield from world.sandboxes.follow(where, run_id, after=after, wait=wait)
        raise SandboxUnavailable("down")

    world.taps["sandboxes"].instead["follow"] = break_off
    following = executions.follow(known, after=0, wait=SECOND)

    assert [next(following).number for _ in range(2)] == [1, 2]
    with pytest.raises(SandboxUnavailable):
        next(following)


# ── Cancelling ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("start", [begin, begin_unheard])
def test_a_cancelled_run_has_ended_and_its_session_is_free(
    world: World, executions: Executions, start: Callable[[World], str]
) -> None:
    run_id = start(world)

    assert executions.cancel(CHAT, run_id).end is RunEnd.CANCELLED
    world.assert_free()


def test_a_run_that_has_ended_stays_as_it_is(world: World, executions: Executions) -> None:
    run_id = begin(world, DONE)
    later = begin(world)

    assert executions.cancel(CHAT, run_id).outcome == DONE
    assert executions.get(CHAT, later).end is None, "and no other is stopped in its place"


def test_a_run_that_there_is_not_cannot_be_cancelled(world: World, executions: Executions) -> None:
    begin(world)

    with pytest.raises(ExecutionNotFound):
        executions.cancel(CHAT, "run-1")


def test_a_run_that_does_not_react_is_told_as_busy(world: World, executions: Executions) -> None:
    run_id = begin(world)
    world.taps["sandboxes"].instead["cancel"] = lambda *_: Cancelled(found=True, ended=False)

    with pytest.raises(SessionBusy, match=f"'{run_id}' of chat 'chat-1' has not stopped yet"):
        executions.cancel(CHAT, run_id)


def test_a_run_that_is_about_to_begin_cannot_be_cancelled_yet(world: World, executions: Executions) -> None:
    world.sandboxes.alive["sbx1"] = {}
    world.store.begin(busy(), seen=None)
    world.runs.open(opened())

    with pytest.raises(SessionBusy):
        executions.cancel(CHAT, "run-1")


def test_a_run_whose_sandbox_is_gone_by_then_is_lost(world: World, executions: Executions) -> None:
    run_id = begin(world)

    def vanish(where: SandboxRef, run_id: str) -> Cancelled:
        world.lose_sandbox()
        return world.sandboxes.cancel(where, run_id)

    world.taps["sandboxes"].instead["cancel"] = vanish

    assert executions.cancel(CHAT, run_id).end is RunEnd.SANDBOX_LOST


# ── When its session ends ───────────────────────────────────────────────────────────────────────────


def test_a_session_ends_its_timeout_after_the_runs_end(world: World, executions: Executions) -> None:
    run_id = begin(world, DONE)
    world.clock.advance(10 * MINUTE)

    assert executions.expires_in(executions.get(CHAT, run_id)) == 20 * MINUTE
    world.clock.advance(60 * MINUTE)
    assert executions.expires_in(executions.get(CHAT, run_id)) == NO_TIME


def test_while_the_run_goes_on_the_timeout_has_not_begun(world: World, executions: Executions) -> None:
    run_id = begin(world)
    world.clock.advance(10 * MINUTE)

    assert executions.expires_in(executions.get(CHAT, run_id)) == 30 * MINUTE
