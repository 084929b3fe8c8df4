"""What owners see of their sessions, and do to them beside running code."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sandkeeper.errors import SandboxUnavailable, SessionBusy, SessionNotFound
from sandkeeper.model import ChatKey, EndReason, RunEnd, RunOutcome, SandboxRef, Session
from sandkeeper.ports import SandboxGone
from sandkeeper.services.control import INTERRUPT_S, Activity, SessionControl
from tests.factories import SESSION_TIMEOUT, busy, closing, creating, idle, unreadable
from tests.world import CHAT, OWNER, START, Patience, World, told

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def control(world: World) -> SessionControl:
    """Returns what a caller has in hand."""
    return world.wiring.control


def put(world: World, row: Session) -> Session:
    """Puts the row there."""
    world.store.begin(row, seen=None)
    return row


# ── Looking ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("row", "activity"),
    [
        (idle(), "idle"),
        (busy(), "running"),
        (busy(run_until=START), "idle"),
        (creating(), "creating"),
        (creating(claim_until=START), "creating"),
        (idle(pauses_at=START), "paused"),
        (busy(pauses_at=START), "running"),
        (idle(pauses_at=None), "idle"),
    ],
    ids=["idle", "running", "runner died", "creating", "creator died", "paused", "running late", "of an older row"],
)
def test_a_live_session_tells_what_it_is_doing(
    world: World, control: SessionControl, row: Session, activity: Activity
) -> None:
    put(world, row)

    info = control.get(CHAT)

    assert (info.session, info.activity, info.expires_in) == (row, activity, SESSION_TIMEOUT)


@pytest.mark.parametrize(
    "row",
    [
        None,
        idle(expires_at=START),
        creating(expires_at=START),
        closing(),
        unreadable(),
        idle(key=ChatKey("bob", CHAT.chat_id)),
    ],
    ids=["never was", "expired", "creator died long ago", "closing", "unreadable", "of another owner"],
)
def test_what_a_call_would_begin_anew_is_not_there(
    world: World, control: SessionControl, row: Session | None
) -> None:
    if row is not None:
        put(world, row)

    assert control.find(CHAT) is None
    for look in (control.get, control.interrupt, control.restart):
        with pytest.raises(SessionNotFound, match=r"'chat-1' has no live session"):
            look(CHAT)
    assert not {"sandboxes.interrupt", "sandboxes.restart_kernel"} & set(world.calls())


def test_a_list_goes_page_by_page_in_the_order_of_expiry_and_counts_all(
    world: World, control: SessionControl
) -> None:
    names = [f"chat-{number}" for number in (3, 1, 4, 0, 2)]
    for minutes, name in enumerate(names):
        put(world, idle(key=ChatKey(OWNER, name), expires_at=START + (1 + minutes) * MINUTE))

    seen: list[str] = []
    first = control.list(OWNER, limit=2, after=None)
    page = first
    while page.after is not None:
        seen += [info.session.key.chat_id for info in page.sessions]
        page = control.list(OWNER, limit=2, after=page.after)
    seen += [info.session.key.chat_id for info in page.sessions]

    assert seen == names
    assert (len(first.sessions), first.count, page.count) == (2, 5, 5)


def test_sessions_that_expire_at_the_same_moment_are_all_listed(world: World, control: SessionControl) -> None:
    for number in range(4):
        put(world, idle(key=ChatKey(OWNER, f"chat-{number}")))

    first = control.list(OWNER, limit=2, after=None)
    second = control.list(OWNER, limit=2, after=first.after)

    assert [info.session.key.chat_id for info in [*first.sessions, *second.sessions]] == [
        f"chat-{number}" for number in range(4)
    ]


def test_a_list_holds_only_what_is_there_and_ones_own(world: World, control: SessionControl) -> None:
    put(world, idle())
    put(world, creating(key=ChatKey(OWNER, "chat-2")))
    put(world, idle(key=ChatKey(OWNER, "expired"), expires_at=START))
    put(world, closing(key=ChatKey(OWNER, "closing")))
    put(world, idle(key=ChatKey("bob", "theirs")))
    put(world, idle(key=ChatKey(OWNER + "#2", "theirs")))

    found = control.list(OWNER, limit=50, after=None)

    assert [info.session.key.chat_id for info in found.sessions] == ["chat-1", "chat-2"]
    assert (found.count, found.after) == (2, None)


def test_a_session_that_ends_while_it_is_listed_is_left_out(world: World, control: SessionControl) -> None:
    put(world, idle())
    put(world, idle(key=ChatKey(OWNER, "chat-2")))
    read_many = world.store.read_many

    def close_meanwhile(keys: Any) -> Any:
        world.sessions.ending.close(CHAT)
        return read_many(keys)

    world.taps["store"].instead["read_many"] = close_meanwhile

    assert [info.session.key.chat_id for info in control.list(OWNER, limit=50, after=None).sessions] == ["chat-2"]


# ── Interrupting ────────────────────────────────────────────────────────────────────────────────────


def on_interrupt(world: World, react: Callable[[int], None]) -> None:
    """Lets the code react so to being interrupted for the 1st, 2nd … time."""

    def interrupt(sandbox: SandboxRef) -> None:
        world.sandboxes.interrupted.append(sandbox.sandbox_id)
        react(len(world.sandboxes.interrupted))

    world.taps["sandboxes"].instead["interrupt"] = interrupt


def release(world: World, row: Session) -> None:
    """Lets the run end."""
    assert world.sessions.release(row, ran=True, hydrated={}) > timedelta(0)


@pytest.mark.parametrize("heard", [1, 4], ids=["at once", "later"])
def test_an_interrupt_answers_once_the_run_has_ended(
    world: World, control: SessionControl, patience: Patience, heard: int
) -> None:
    row = put(world, busy())
    on_interrupt(world, lambda times: release(world, row) if times == heard else None)

    assert control.interrupt(CHAT) is True

    assert world.sandboxes.interrupted == ["sbx1"] * heard
    assert not world.row().is_busy(world.clock())


@pytest.mark.parametrize(
    "row", [idle(), busy(run_until=START), creating()], ids=["idle", "runner died", "creating"]
)
def test_where_nothing_runs_there_is_nothing_to_interrupt(
    world: World, control: SessionControl, row: Session
) -> None:
    put(world, row)

    assert control.interrupt(CHAT) is False
    assert "sandboxes.interrupt" not in world.calls()


def test_the_run_that_follows_is_not_interrupted(world: World, control: SessionControl, patience: Patience) -> None:
    row = put(world, busy(run_until=START + MINUTE))

    def next_one(_: int) -> None:
        release(world, row)
        claim = {"now": world.clock(), "run_until": START + MINUTE, "expires_at": row.expires_at}
        world.store.claim(CHAT, run_id="run-2", **claim)

    on_interrupt(world, next_one)

    assert control.interrupt(CHAT) is True
    assert world.sandboxes.interrupted == ["sbx1"]
    assert world.row().run_id == "run-2"


def test_code_that_does_not_react_is_told_as_busy_with_what_helps(
    world: World, control: SessionControl, patience: Patience
) -> None:
    row = put(world, busy(run_until=START + MINUTE))
    on_interrupt(world, lambda _: None)

    with pytest.raises(SessionBusy, match=r"has not stopped 10 s after being interrupted; restart"):
        control.interrupt(CHAT)

    assert sum(patience.slept) == pytest.approx(INTERRUPT_S)
    assert len(world.sandboxes.interrupted) < 60
    assert world.row() == row


def test_where_the_sandbox_is_gone_nothing_runs(world: World, control: SessionControl) -> None:
    put(world, busy())
    world.taps["sandboxes"].fail("interrupt", SandboxGone("sbx1"))

    assert control.interrupt(CHAT) is False


def test_a_sandbox_that_cannot_be_reached_is_told(world: World, control: SessionControl) -> None:
    put(world, busy())
    world.taps["sandboxes"].fail("interrupt", SandboxUnavailable("down"))

    with pytest.raises(SandboxUnavailable):
        control.interrupt(CHAT)


# ── Restarting ──────────────────────────────────────────────────────────────────────────────────────


def test_a_restart_is_told_to_exactly_the_next_run(world: World, control: SessionControl) -> None:
    world.run()

    control.restart(CHAT)

    assert world.sandboxes.restarted == ["sbx1"]
    assert [told(world.run()) for _ in range(2)] == [("reused", 1, EndReason.RESTARTED), ("reused", 1, None)]


def test_a_restart_during_a_run_is_told_to_the_run_after_it(world: World, control: SessionControl) -> None:
    world.run()

    def restart_meanwhile(_: SandboxRef, __: str) -> RunOutcome:
        control.restart(CHAT)
        return RunOutcome([], RunEnd.SANDBOX_LOST)

    world.sandboxes.program = restart_meanwhile
    assert told(world.run()) == ("reused", 1, None)
    world.sandboxes.program = lambda _, __: RunOutcome([], RunEnd.FINISHED)

    assert [told(world.run()) for _ in range(2)] == [("reused", 1, EndReason.RESTARTED), ("reused", 1, None)]


def test_a_run_between_the_word_and_the_restart_does_not_keep_it_from_the_next(
    world: World, control: SessionControl
) -> None:
    world.run()

    def restart(where: SandboxRef) -> None:
        world.run("between")
        world.sandboxes.restart_kernel(where)

    world.taps["sandboxes"].instead["restart_kernel"] = restart
    control.restart(CHAT)

    assert [told(world.run()) for _ in range(2)] == [("reused", 1, EndReason.RESTARTED), ("reused", 1, None)]


def test_a_restart_is_told_until_a_run_has_heard_of_it(world: World, control: SessionControl) -> None:
    world.run()
    control.restart(CHAT)
    world.taps["sandboxes"].fail("run", SandboxUnavailable("down"))
    with pytest.raises(SandboxUnavailable):
        world.run()

    assert told(world.run()) == ("reused", 1, EndReason.RESTARTED)


def test_two_restarts_are_told_once(world: World, control: SessionControl) -> None:
    world.run()
    control.restart(CHAT)
    control.restart(CHAT)

    assert [told(world.run()) for _ in range(2)] == [("reused", 1, EndReason.RESTARTED), ("reused", 1, None)]


def test_a_restart_of_what_no_run_was_completed_in_resets_nothing(world: World, control: SessionControl) -> None:
    world.taps["sandboxes"].fail("run", SandboxUnavailable("down"))
    with pytest.raises(SandboxUnavailable):
        world.run()

    control.restart(CHAT)

    assert [told(world.run()) for _ in range(2)] == [("new", 1, None), ("reused", 1, None)]


def test_files_stay_through_a_restart(world: World, control: SessionControl) -> None:
    file = world.add_file("a.csv", b"a")
    world.run()
    control.restart(CHAT)
    world.calls()

    assert world.run().paths == [file.path]
    assert "sandboxes.write_file" not in world.calls()


@pytest.mark.parametrize("idle_for", [timedelta(0), 6 * MINUTE], ids=["its row says awake", "deadline passed"])
def test_a_paused_sandbox_is_resumed_to_be_restarted(
    world: World, control: SessionControl, idle_for: timedelta
) -> None:
    world.run()
    world.pause_sandbox()
    world.clock.advance(idle_for)

    control.restart(CHAT)

    assert world.sandboxes.restarted == ["sbx1"]
    assert world.row().pauses_at == world.clock() + 30 * SECOND + 5 * MINUTE
    assert told(world.run()) == ("reused", 1, EndReason.RESTARTED)


def test_a_sandbox_that_is_gone_cannot_be_restarted_and_the_next_run_tells_the_loss(
    world: World, control: SessionControl
) -> None:
    world.run()
    world.lose_sandbox()

    with pytest.raises(SessionNotFound):
        control.restart(CHAT)

    assert [told(world.run()) for _ in range(2)] == [
        ("recreated", 2, EndReason.SANDBOX_LOST),
        ("reused", 2, None),
    ]


def test_a_restart_that_may_have_happened_is_told(world: World, control: SessionControl) -> None:
    """The connection broke before the answer: told once too often is better than never."""
    world.run()
    world.taps["sandboxes"].fail("restart_kernel", SandboxUnavailable("down"))
    with pytest.raises(SandboxUnavailable):
        control.restart(CHAT)

    assert told(world.run()) == ("reused", 1, EndReason.RESTARTED)
