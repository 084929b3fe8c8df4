"""Calls that fail on the way: no code was run, the session is free, and what went well is not lost."""

from datetime import timedelta

import pytest

from sandkeeper.errors import CapacityExhausted, NotConfigured, SandboxUnavailable, SessionBusy, StoreUnavailable
from sandkeeper.model import RunEnd, RunOutcome, SandboxRef, SessionState, Stream
from tests.world import CHAT, World, note, told

MINUTE = timedelta(minutes=1)
LIMIT = timedelta(seconds=5)
DOWN = SandboxUnavailable("down")
FULL = CapacityExhausted("full")


@pytest.fixture
def ran(world: World) -> list[str]:
    """Returns what is run from now on, as `sandbox: code`."""
    noted: list[str] = []
    world.sandboxes.program = lambda where, code: note(noted, where, code)
    return noted


FAILURES = [DOWN, FULL, NotConfigured("no key"), RuntimeError("boom"), ValueError("boom"), OSError("boom")]


@pytest.mark.parametrize("error", FAILURES, ids=repr)
@pytest.mark.parametrize("method", ["run", "write_file"])
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "first call"])
def test_a_run_that_could_not_start_frees_the_session(
    world: World, ran: list[str], error: Exception, method: str, warm: bool
) -> None:
    if warm:
        world.run()
        ran.clear()
    world.add_file("a.csv", b"a")
    world.taps["sandboxes"].fail(method, error)

    with pytest.raises(type(error)):
        world.run()

    world.assert_free()
    assert ran == []
    assert world.row().run_count == warm
    assert world.run(on_busy="reject").execution.context.sandbox_id == "sbx1"


@pytest.mark.parametrize("error", [StoreUnavailable("throttled"), RuntimeError("boom")], ids=repr)
@pytest.mark.parametrize("call", ["catalog.of_chat", "sandboxes.create", "store.point", "store.activate"])
def test_a_first_call_that_fails_on_the_way_leaves_its_claim_to_the_next(
    world: World, call: str, error: Exception
) -> None:
    port, method = call.split(".")
    world.taps[port].fail(method, error)
    with pytest.raises(type(error)):
        world.run()
    left = world.row()
    world.assert_free()

    reply = world.run(on_busy="reject")

    assert (reply.execution.context.claim_id, told(reply)) == (left.claim_id, ("new", 1, None))
    assert list(world.sandboxes.alive) == ["sbx1"]


@pytest.mark.parametrize("error", [DOWN, StoreUnavailable("throttled"), RuntimeError("boom")], ids=repr)
@pytest.mark.parametrize("call", ["sandboxes.connect", "store.note_sandbox"])
def test_a_resume_that_fails_frees_the_session(world: World, ran: list[str], call: str, error: Exception) -> None:
    world.run("a")
    world.pause_sandbox()
    port, method = call.split(".")
    world.taps[port].fail(method, error)

    with pytest.raises(type(error)):
        world.run("b")

    world.assert_free()
    assert ran == ["sbx1: a"]
    assert told(world.run("c"))[1:] == (1, None)


def test_a_store_that_is_down_is_told_and_nothing_is_created(world: World) -> None:
    world.taps["store"].fail("claim", StoreUnavailable("throttled"))

    with pytest.raises(StoreUnavailable):
        world.run()

    assert world.sandboxes.specs == {}


@pytest.mark.parametrize("error", [DOWN, RuntimeError("boom")], ids=repr)
def test_a_session_that_could_not_be_given_back_either_tells_the_first_failure(
    world: World, error: Exception
) -> None:
    world.taps["sandboxes"].fail("run", error)
    world.taps["store"].fail("release", StoreUnavailable("throttled"))

    with pytest.raises(type(error)):
        world.run()

    assert "session.release_failed" in world.events()


def test_a_release_that_fails_does_not_cost_the_caller_the_result(world: World) -> None:
    world.taps["store"].fail("release", StoreUnavailable("throttled"))

    reply = world.run("x")

    assert reply.execution.outcome.outputs == [Stream("stdout", "x")]
    assert reply.expires_in > 29 * MINUTE
    assert "session.release_failed" in world.events()


def test_a_session_that_was_not_released_is_free_once_its_call_can_be_no_more(world: World) -> None:
    world.taps["store"].fail("release", StoreUnavailable("throttled"))
    world.run()

    with pytest.raises(SessionBusy):
        world.run(on_busy="reject")
    world.clock.advance(timedelta(seconds=28 + 15))
    world.run(on_busy="reject")

    assert world.row().run_count == 2, "whoever found it unreleased has counted its run"


def test_the_predecessor_that_cannot_be_killed_does_not_cost_the_caller_the_result(world: World) -> None:
    world.run()
    world.clock.advance(30 * MINUTE)
    world.taps["sandboxes"].fail("kill", DOWN)

    assert told(world.run())[0] == "recreated"
    world.beside.settle()
    assert "sandbox.kill_failed" in world.events()


def test_a_close_during_a_run_leaves_the_run_its_result_and_the_chat_no_sandbox(world: World) -> None:
    def close_meanwhile(_: SandboxRef, __: str) -> RunOutcome:
        world.sessions.ending.close(CHAT)
        return RunOutcome([], RunEnd.SANDBOX_LOST)

    world.sandboxes.program = close_meanwhile

    assert world.run().execution.outcome.end is RunEnd.SANDBOX_LOST
    assert world.row().state is SessionState.CLOSED
    assert world.sandboxes.alive == {}
