"""How long a call listens to its run, and what it leaves behind when the run goes on without it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from sandkeeper.errors import SandboxUnavailable, StoreUnavailable
from sandkeeper.model import RunEnd, RunOutcome, SandboxRef, Stream
from sandkeeper.runs import RunEvent, RunOrder
from sandkeeper.services.execute import Mode
from tests.world import CHAT, Patience, World, orders, told

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DONE = RunOutcome([Stream("stdout", "done")], RunEnd.FINISHED)


def go_on(world: World) -> None:
    """Lets runs go on."""
    world.sandboxes.program = lambda *_: None


def never_heard_of(*_: Any, **__: Any) -> Iterator[RunEvent]:
    """Stands for a sandbox that may have got the order, and tells nothing."""
    return iter(())


def slow_creation(world: World, takes: timedelta) -> None:
    """Lets the creation of sandboxes take so long."""

    def create(*args: Any, **kwargs: Any) -> SandboxRef:
        world.clock.advance(takes)
        return world.sandboxes.create(*args, **kwargs)

    world.taps["sandboxes"].instead["create"] = create


# ── For how long ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("mode", "limit", "wait"),
    [
        ("auto", 5 * SECOND, 25 * SECOND),
        ("auto", 60 * MINUTE, 25 * SECOND),
        ("inline", 5 * SECOND, 27 * SECOND),
        ("async", 5 * SECOND, 0 * SECOND),
    ],
)
def test_a_call_listens_for_as_long_as_its_mode_says_and_its_run_has_its_whole_limit(
    world: World, patience: Patience, mode: Mode, limit: timedelta, wait: timedelta
) -> None:
    asked = orders(world)

    world.run(mode=mode, limit=limit)

    ((order, waited),) = asked
    assert (order.context.limit, waited) == (limit, wait)
    assert order.context.asked_ms == order.context.limit_ms


def test_what_getting_a_sandbox_takes_a_call_listens_less(world: World, patience: Patience) -> None:
    slow_creation(world, 10 * SECOND)
    asked = orders(world)

    world.run(limit=60 * MINUTE)

    ((order, waited),) = asked
    assert (order.context.limit, waited) == (60 * MINUTE, 15 * SECOND)


def test_code_that_must_end_within_its_call_has_less_time_where_the_sandbox_took_some_and_that_is_told(
    world: World, patience: Patience
) -> None:
    slow_creation(world, 10 * SECOND)
    asked = orders(world)

    world.run(mode="inline", limit=25 * SECOND)
    world.run(mode="inline", limit=25 * SECOND)

    (cut, _), (whole, _) = asked
    assert (cut.context.limit_ms, cut.context.asked_ms) == (16_000, 25_000)
    assert (whole.context.limit_ms, whole.context.asked_ms) == (25_000, 25_000)


@pytest.mark.parametrize("mode", ["auto", "inline", "async"])
def test_a_run_that_is_over_in_time_is_answered_with_its_result(world: World, mode: Mode) -> None:
    world.sandboxes.program = lambda *_: DONE

    reply = world.run(mode=mode)

    assert reply.execution.outcome == DONE
    assert reply.expires_in == 30 * MINUTE
    world.assert_free()


# ── A run that goes on ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["auto", "async"])
def test_a_run_that_goes_on_keeps_its_session_is_known_and_nobody_attends_to_it(world: World, mode: Mode) -> None:
    go_on(world)

    reply = world.run(mode=mode, limit=10 * MINUTE)

    row, run_id = world.row(), reply.execution.execution_id
    assert (row.run_id, row.is_attended(world.clock())) == (run_id, False)
    assert reply.execution.end is None
    assert reply.expires_in == 40 * MINUTE
    assert row.expires_at == world.clock() + 40 * MINUTE
    record = world.runs.get(CHAT, run_id)
    assert record is not None
    assert (record.end, record.context) == (None, reply.execution.context)
    assert "run.left" in world.events()


def test_a_warm_call_that_leaves_its_run_takes_three_round_trips(world: World) -> None:
    world.run()
    world.calls()
    go_on(world)

    world.run()

    assert world.calls() == ["runs.open", "sandboxes.run", "store.claim", "store.leave"]


def test_an_asynchronous_run_is_known_before_it_is_asked_for(world: World) -> None:
    world.run()
    in_order: list[str] = []

    def keep(port: str, method: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            in_order.append(method)
            return getattr(getattr(world, port), method)(*args, **kwargs)

        return call

    world.taps["runs"].instead["open"] = keep("runs", "open")
    world.taps["sandboxes"].instead["run"] = keep("sandboxes", "run")
    world.run(mode="async")

    assert in_order[:2] == ["open", "run"]


def test_an_asynchronous_run_that_cannot_be_made_known_is_not_asked_for(world: World) -> None:
    world.run()
    world.taps["runs"].fail("open", StoreUnavailable("throttled"))
    world.calls()

    with pytest.raises(StoreUnavailable):
        world.run(mode="async")

    assert "sandboxes.run" not in world.calls()
    world.assert_free()


def test_a_run_that_could_not_be_made_known_when_it_was_left_is_found_in_its_sandbox(world: World) -> None:
    go_on(world)
    world.taps["runs"].fail("open", StoreUnavailable("throttled"))

    run_id = world.run().execution.execution_id

    assert "run.not_opened" in world.events()
    assert world.wiring.executions.get(CHAT, run_id).end is None
    world.sandboxes.finish(run_id, DONE)
    assert world.wiring.executions.get(CHAT, run_id).outcome == DONE


def test_a_session_that_could_not_be_left_is_as_good_as_left_once_its_call_can_be_no_more(world: World) -> None:
    go_on(world)
    world.taps["store"].fail("leave", StoreUnavailable("throttled"))

    run_id = world.run().execution.execution_id

    world.sandboxes.finish(run_id, DONE)
    world.clock.advance(timedelta(seconds=28 + 15))
    assert told(world.run(on_busy="reject")) == ("reused", 1, None)


@pytest.mark.parametrize("mode", ["auto", "async"])
def test_the_files_of_a_run_that_goes_on_are_known_to_be_there(world: World, mode: Mode) -> None:
    file = world.add_file("a.csv", b"a")
    go_on(world)

    reply = world.run(mode=mode)

    assert reply.execution.context.paths == [file.path]
    assert (world.row().hydrated, world.row().fresh_files) == ({file.file_id: file.path}, frozenset())
    world.calls()
    world.sandboxes.finish(reply.execution.execution_id, DONE)
    assert world.run().execution.context.paths == [file.path]
    assert "sandboxes.write_file" not in world.calls()


def test_what_a_call_gives_its_run_to_tell_is_all_that_is_known_of_it(world: World) -> None:
    file = world.add_file("a.csv", b"a")
    world.run()
    go_on(world)

    run_id = world.run(limit=7 * SECOND).execution.execution_id

    context = world.wiring.executions.get(CHAT, run_id).context
    row = world.row()
    assert (context.claim_id, context.generation, context.sandbox_id) == (row.claim_id, 1, "sbx1")
    assert (context.status, context.reason, context.paths) == ("reused", None, [file.path])
    assert (context.limit, context.asked_ms) == (7 * SECOND, 7_000)


# ── A run of which nothing has been heard ───────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["auto", "inline", "async"])
def test_a_run_that_may_have_begun_is_known_also_where_nothing_has_been_heard(world: World, mode: Mode) -> None:
    """Its caller is not told that it failed: asking again with other code could run both."""
    world.run()
    world.taps["sandboxes"].instead["run"] = never_heard_of

    reply = world.run("x", mode=mode)

    run_id = reply.execution.execution_id
    assert (reply.execution.end, reply.execution.code, reply.execution.events) == (None, "x", ())
    assert (world.row().run_id, world.row().is_attended(world.clock())) == (run_id, False)
    record = world.runs.get(CHAT, run_id)
    assert record is not None
    assert record.end is None


def test_one_that_had_begun_is_told_to_its_end(world: World) -> None:
    world.run()
    go_on(world)

    def hear_and_say_nothing(where: SandboxRef, order: RunOrder, *, wait: timedelta) -> Iterator[RunEvent]:
        list(world.sandboxes.run(where, order, wait=wait))
        return iter(())

    world.taps["sandboxes"].instead["run"] = hear_and_say_nothing
    run_id = world.run("x").execution.execution_id
    world.sandboxes.finish(run_id, DONE)

    assert world.wiring.executions.get(CHAT, run_id).outcome == DONE
    world.assert_free()


def test_one_that_had_not_begun_is_lost_and_its_session_free(world: World) -> None:
    world.run()
    world.taps["sandboxes"].instead["run"] = never_heard_of
    run_id = world.run("x").execution.execution_id

    assert world.wiring.executions.get(CHAT, run_id).end is RunEnd.SANDBOX_LOST
    world.assert_free()


def test_an_order_that_was_surely_not_heard_is_an_error_and_leaves_nothing_behind(world: World) -> None:
    world.run()
    world.taps["sandboxes"].fail("run", SandboxUnavailable("down"))

    with pytest.raises(SandboxUnavailable):
        world.run("x", mode="async")

    world.assert_free()
    assert world.row().run_count == 1
    assert "runs.withdraw" in world.calls()
