"""What owners see of their sessions, and do to them beside running code."""

from datetime import timedelta
from typing import Any

import pytest

from sandkeeper.errors import SandboxUnavailable, SessionBusy, SessionNotFound
from sandkeeper.model import ChatKey, EndReason, RunEnd, RunOutcome, SandboxRef, Session
from sandkeeper.runs import Cancelled
from sandkeeper.services.control import Activity, SessionControl
from tests.factories import SESSION_TIMEOUT, busy, closing, creating, idle, unreadable
from tests.world import CHAT, OWNER, START, World, told

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
        (busy(run_until=START), "running"),
        (creating(), "creating"),
        (creating(claim_until=START), "creating"),
        (idle(pauses_at=START), "paused"),
        (busy(pauses_at=START), "running"),
        (idle(pauses_at=None), "idle"),
    ],
    ids=[
        "idle",
        "running",
        "left by its call",
        "creating",
        "creator died",
        "paused",
        "running late",
        "of an older row",
    ],
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
    for look in (control.get, control.look, control.interrupt, control.restart):
        with pytest.raises(SessionNotFound, match=r"'chat-1' has no live session"):
            look(CHAT)
    assert not [call for call in world.calls() if call.startswith("sandboxes.")]


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


def begin(world: World) -> str:
    """Begins a run that goes on, and returns its id."""
    world.sandboxes.program = lambda *_: None
    return world.run(mode="async").execution.execution_id


def test_an_interrupt_answers_once_the_run_has_ended_and_leaves_its_end_to_whoever_asks(
    world: World, control: SessionControl
) -> None:
    run_id = begin(world)

    assert control.interrupt(CHAT) is True

    assert world.wiring.executions.get(CHAT, run_id).end is RunEnd.CANCELLED
    world.assert_free()


@pytest.mark.parametrize("row", [None, creating()], ids=["idle", "creating"])
def test_where_nothing_runs_there_is_nothing_to_interrupt(
    world: World, control: SessionControl, row: Session | None
) -> None:
    if row is None:
        world.run()
    else:
        put(world, row)

    assert control.interrupt(CHAT) is False


def test_what_has_ended_unseen_is_not_interrupted(world: World, control: SessionControl) -> None:
    run_id = begin(world)
    world.sandboxes.finish(run_id, RunOutcome([], RunEnd.FINISHED))

    assert control.interrupt(CHAT) is False
    assert world.wiring.executions.get(CHAT, run_id).end is RunEnd.FINISHED


def test_what_a_sandbox_runs_is_asked_of_it_and_not_of_the_row(world: World, control: SessionControl) -> None:
    """The row may be behind: it is the sandbox that knows what runs, and it stops that."""
    begin(world)
    world.store.release(world.row(), now=START, ran=True, expires_at=START + SESSION_TIMEOUT, hydrated={})

    assert control.interrupt(CHAT) is True


def test_code_that_does_not_react_is_told_as_busy_with_what_helps(world: World, control: SessionControl) -> None:
    row = put(world, busy())
    world.taps["sandboxes"].instead["cancel"] = lambda *_: Cancelled(found=True, ended=False)

    with pytest.raises(SessionBusy, match=r"has not stopped after being interrupted; restart"):
        control.interrupt(CHAT)

    assert world.row() == row


def test_where_the_sandbox_is_gone_nothing_runs(world: World, control: SessionControl) -> None:
    put(world, busy())

    assert control.interrupt(CHAT) is False


def test_a_sandbox_that_cannot_be_reached_is_told(world: World, control: SessionControl) -> None:
    put(world, busy())
    world.taps["sandboxes"].fail("cancel", SandboxUnavailable("down"))

    with pytest.raises(SandboxUnavailable):
        control.interrupt(CHAT)


# ── Looking at one whose run nobody attends to ──────────────────────────────────────────────────────


def test_a_run_that_has_ended_unseen_is_not_told_as_running_and_is_recorded(
    world: World, control: SessionControl
) -> None:
    run_id = begin(world)
    world.sandboxes.finish(run_id, RunOutcome([], RunEnd.FINISHED))

    assert control.look(CHAT).activity == "idle"
    assert world.row().run_count == 1
    recorded = world.runs.get(CHAT, run_id)
    assert recorded is not None
    assert recorded.end is RunEnd.FINISHED


def test_a_run_that_goes_on_is_told_as_running(world: World, control: SessionControl) -> None:
    begin(world)

    assert control.look(CHAT).activity == "running"


def test_a_run_that_its_own_call_attends_to_is_left_to_that(world: World, control: SessionControl) -> None:
    put(world, busy())

    assert control.look(CHAT).activity == "running"
    assert not [call for call in world.calls() if call.startswith("sandboxes.")]


def test_where_the_sandbox_does_not_answer_the_row_is_told(world: World, control: SessionControl) -> None:
    begin(world)
    world.taps["sandboxes"].fail("follow", SandboxUnavailable("down"))

    assert control.look(CHAT).activity == "running"


def test_a_look_raises_for_what_is_not_there(world: World, control: SessionControl) -> None:
    with pytest.raises(SessionNotFound):
        control.look(CHAT)


# ── Restarting ──────────────────────────────────────────────────────────────────────────────────────


def test_a_restart_is_told_to_exactly_the_next_run(world: World, control: SessionControl) -> None:
    world.run()

    control.restart(CHAT)

    assert world.sandboxes.restarted == ["sbx1"]
    assert [told(world.run()) for _ in range(2)] == [("reused", 1, EndReason.RESTARTED), ("reused", 1, None)]


def test_a_restart_during_a_run_is_told_to_the_run_after_it(world: World, control: SessionControl) -> None:
    world.run()

    def restart_meanwhile(_: SandboxRef, __: str) -> None:
        control.restart(CHAT)

    world.sandboxes.program = restart_meanwhile
    reply = world.run()
    assert (told(reply), reply.execution.end) == (("reused", 1, None), RunEnd.KERNEL_DIED)
    world.sandboxes.program = lambda _, __: RunOutcome([], RunEnd.FINISHED)

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

    assert world.run().execution.context.paths == [file.path]
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


def test_a_restart_of_which_the_answer_was_lost_is_told_if_it_has_happened(
    world: World, control: SessionControl
) -> None:
    """It is the sandbox that remembers it: whether the caller has heard of it makes no difference."""
    world.run()

    def restart_and_break(where: SandboxRef) -> None:
        world.sandboxes.restart_kernel(where)
        raise SandboxUnavailable("the connection broke")

    world.taps["sandboxes"].instead["restart_kernel"] = restart_and_break
    with pytest.raises(SandboxUnavailable):
        control.restart(CHAT)

    assert told(world.run()) == ("reused", 1, EndReason.RESTARTED)


def test_a_restart_that_has_not_happened_is_told_to_nobody_else(world: World, control: SessionControl) -> None:
    world.run()
    world.taps["sandboxes"].fail("restart_kernel", SandboxUnavailable("down"))
    with pytest.raises(SandboxUnavailable):
        control.restart(CHAT)

    assert told(world.run()) == ("reused", 1, None)
