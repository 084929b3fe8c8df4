"""Sandboxes that pause or vanish: code runs once or not at all, and the session is free again."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sandkeeper.errors import (
    CapacityExhausted,
    SandboxUnavailable,
)
from sandkeeper.model import EndReason, RunEnd, RunOutcome, SandboxRef, Session, Stream
from sandkeeper.ports import Granted, Refused, SandboxGone
from tests.factories import idle, unreadable
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


# ── Sandboxes that pause ────────────────────────────────────────────────────────────────────────────


def test_a_sandbox_whose_deadline_has_passed_is_resumed_before_the_run(world: World, ran: list[str]) -> None:
    world.run("a")
    world.pause_sandbox()
    world.clock.advance(6 * MINUTE)
    world.calls()

    reply = world.run("b")

    assert told(reply) == ("resumed", 1, None)
    assert ran == ["sbx1: a", "sbx1: b"]
    assert world.calls() == [
        "runs.finish",
        "sandboxes.connect",
        "sandboxes.run",
        "store.claim",
        "store.note_sandbox",
        "store.release",
    ]
    assert world.row().pauses_at == world.clock() + LIMIT + 5 * MINUTE
    assert "session.resumed" in world.events()


def test_a_sandbox_that_is_paused_though_its_row_says_awake_is_resumed_and_the_code_run_once(
    world: World, ran: list[str]
) -> None:
    world.run("a")
    world.pause_sandbox()
    world.taps["sandboxes"].calls.clear()

    reply = world.run("b")

    assert told(reply) == ("resumed", 1, None)
    assert world.taps["sandboxes"].calls == ["run", "connect", "run"]
    assert ran == ["sbx1: a", "sbx1: b"]
    assert world.row().pauses_at == world.clock() + LIMIT + 5 * MINUTE


def test_the_resume_is_told_once(world: World) -> None:
    world.run()
    world.pause_sandbox()
    world.run()

    assert told(world.run()) == ("reused", 1, None)


def test_what_a_resumed_sandbox_is_reached_by_now_is_used_and_noted(world: World) -> None:
    """Its tokens may be others after it has been resumed."""
    world.run()
    world.clock.advance(6 * MINUTE)
    now = replace(world.row().sandbox or idle().sandbox, envd_token="another")  # type: ignore[type-var]
    world.taps["sandboxes"].instead["connect"] = lambda *_, **__: now
    used: list[SandboxRef] = []

    def program(where: SandboxRef, _: str) -> RunOutcome:
        used.append(where)
        return RunOutcome([], RunEnd.FINISHED)

    world.sandboxes.program = program
    world.run()

    assert used == [now]
    assert world.row().sandbox == now


def test_a_file_waits_for_a_paused_sandbox_too(world: World, ran: list[str]) -> None:
    world.run("a")
    world.pause_sandbox()
    file = world.add_file("a.csv", b"a")

    reply = world.run("b")

    assert told(reply) == ("resumed", 1, None)
    assert world.sandboxes.alive["sbx1"] == {file.path: b"a"}
    assert ran == ["sbx1: a", "sbx1: b"]


# ── Sandboxes that vanish ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("idle_for", [timedelta(0), 6 * MINUTE], ids=["found by the run", "found by connecting"])
def test_a_sandbox_that_is_gone_is_replaced_with_its_files_and_the_code_run_once(
    world: World, ran: list[str], idle_for: timedelta
) -> None:
    file = world.add_file("a.csv", b"a")
    world.run("a")
    world.lose_sandbox()
    world.clock.advance(idle_for)

    reply = world.run("b")

    assert told(reply) == ("recreated", 2, EndReason.SANDBOX_LOST)
    assert ran == ["sbx1: a", "sbx2: b"]
    assert world.sandboxes.alive == {"sbx2": {file.path: b"a"}}
    assert reply.execution.context.paths == [file.path]
    world.assert_free()


@pytest.mark.parametrize("idle_for", [timedelta(0), 6 * MINUTE], ids=["found by the run", "found by connecting"])
def test_a_sandbox_is_asked_for_once_before_it_is_replaced(world: World, idle_for: timedelta) -> None:
    world.run()
    world.lose_sandbox()
    world.clock.advance(idle_for)
    world.calls()

    world.run()

    assert world.calls().count("sandboxes.connect") == 1


def test_a_sandbox_that_pauses_again_before_the_code_starts_is_resumed_again(world: World, ran: list[str]) -> None:
    world.run("a")
    world.pause_sandbox()
    _pause_again_after_connecting(world, times=2)

    assert told(world.run("b")) == ("resumed", 1, None)
    assert world.taps["sandboxes"].calls.count("connect") == 3
    assert ran == ["sbx1: a", "sbx1: b"]


def test_a_sandbox_that_never_stays_awake_keeps_its_state_and_the_session_is_free(
    world: World, ran: list[str]
) -> None:
    world.run("a")
    world.pause_sandbox()
    _pause_again_after_connecting(world, times=100)

    with pytest.raises(SandboxUnavailable, match="cannot be reached"):
        world.run("b")

    world.assert_free()
    assert list(world.sandboxes.alive) == ["sbx1"]
    world.taps["sandboxes"].instead.clear()
    assert told(world.run("c")) == ("resumed", 1, None)
    assert ran == ["sbx1: a", "sbx1: c"]


def _pause_again_after_connecting(world: World, *, times: int) -> None:
    left = iter(range(times))

    def connect(sandbox_id: str, *_: Any, **__: Any) -> SandboxRef:
        ref = world.sandboxes.connect(sandbox_id, MINUTE, within=MINUTE)
        if next(left, None) is not None:
            world.pause_sandbox()
        return ref

    world.taps["sandboxes"].instead["connect"] = connect


def test_a_sandbox_that_vanishes_once_it_was_resumed_is_replaced(world: World, ran: list[str]) -> None:
    world.run("a")
    world.pause_sandbox()

    def resume_and_vanish(sandbox_id: str, *_: Any, **__: Any) -> SandboxRef:
        ref = world.sandboxes.connect(sandbox_id, MINUTE, within=MINUTE)
        world.lose_sandbox()
        return ref

    world.taps["sandboxes"].instead["connect"] = resume_and_vanish

    assert told(world.run("b")) == ("recreated", 2, EndReason.SANDBOX_LOST)
    assert ran == ["sbx1: a", "sbx2: b"]


def test_a_sandbox_that_another_call_has_replaced_meanwhile_is_used_and_not_told_as_resumed(
    world: World, ran: list[str]
) -> None:
    world.run("a")
    world.pause_sandbox()

    def resume_and_vanish(sandbox_id: str, *_: Any, **__: Any) -> SandboxRef:
        ref = world.sandboxes.connect(sandbox_id, MINUTE, within=MINUTE)
        world.lose_sandbox()
        return ref

    def begin_late(session: Session, *, seen: Session | None) -> Granted | Refused:
        world.taps["store"].instead.clear()
        world.sessions.ending.close(CHAT)
        world.run("other")
        return world.store.begin(session, seen=seen)

    world.taps["sandboxes"].instead["connect"] = resume_and_vanish
    world.taps["store"].instead["begin"] = begin_late

    assert told(world.run("b")) == ("reused", 2, None)
    assert ran == ["sbx1: a", "sbx2: other", "sbx2: b"]


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "first call"])
def test_two_sandboxes_that_vanish_in_a_row_are_told_and_the_session_is_free(world: World, warm: bool) -> None:
    if warm:
        world.run()

    def vanish(where: SandboxRef, *_: Any, **__: Any) -> RunOutcome:
        world.sandboxes.alive.pop(where.sandbox_id)
        raise SandboxGone(where.sandbox_id)

    world.taps["sandboxes"].instead["run"] = vanish

    with pytest.raises(SandboxUnavailable, match="two sandboxes in a row"):
        world.run()

    world.assert_free()
    world.taps["sandboxes"].instead.clear()
    assert told(world.run())[::2] == ("recreated", EndReason.SANDBOX_LOST)


def test_what_was_lost_before_the_quota_was_reached_is_replaced(world: World) -> None:
    world.configure(max_sessions_per_owner=1)
    world.run()
    world.lose_sandbox()

    assert told(world.run()) == ("recreated", 2, EndReason.SANDBOX_LOST)


def test_a_run_that_was_cut_off_is_not_repeated_and_its_session_is_free(world: World) -> None:
    world.sandboxes.program = lambda _, __: RunOutcome([Stream("stdout", "half")], RunEnd.SANDBOX_LOST)
    world.calls()

    reply = world.run()

    assert reply.execution.outcome.end is RunEnd.SANDBOX_LOST
    assert world.calls().count("sandboxes.run") == 1
    world.assert_free()


@pytest.mark.parametrize(
    ("survived", "next_told"),
    [(True, ("reused", 1, None)), (False, ("recreated", 2, EndReason.SANDBOX_LOST))],
    ids=["sandbox is there", "sandbox is gone"],
)
def test_after_a_cut_off_run_state_is_told_lost_only_if_it_is(
    world: World, survived: bool, next_told: tuple[str, int, EndReason | None]
) -> None:
    world.sandboxes.program = lambda _, __: RunOutcome([], RunEnd.SANDBOX_LOST)
    world.run()
    if not survived:
        world.lose_sandbox()

    assert told(world.run()) == next_told


def test_a_row_that_nobody_can_read_is_told_as_a_loss_and_its_sandbox_is_killed(world: World) -> None:
    world.run()
    world.store.begin(unreadable(predecessor_id="sbx1"), seen=world.row())

    assert told(world.run()) == ("recreated", 8, EndReason.SANDBOX_LOST)
    world.beside.settle()
    assert list(world.sandboxes.alive) == ["sbx2"]
