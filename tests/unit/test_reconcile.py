"""Sandboxes that no row points to are found and killed, and no others."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sandkeeper.errors import CapacityExhausted, NotConfigured, SandboxUnavailable, StoreUnavailable
from sandkeeper.model import Session, SessionState
from sandkeeper.ports import SandboxGone, SandboxSpec, Sweep
from sandkeeper.services import reconcile
from sandkeeper.services.cleanup import CleanupReport
from tests.factories import busy, closing, creating, idle, sandbox, unreadable
from tests.world import CHAT, START, World, told

MILLISECOND = timedelta(milliseconds=1)
TWO_WINDOWS = timedelta(seconds=60)
GROWN = timedelta(seconds=103)
"""No call that could note a sandbox of this age is alive."""
DOWN = SandboxUnavailable("down")
OURS = {"app": "sandkeeper", "stack": "test"}


def make(world: World, claim: str = "claim-1", **metadata: str) -> str:
    """Makes a sandbox that has just been made for this claim, and returns its id."""
    marks = OURS | {"claim": claim} | metadata
    spec = SandboxSpec(
        idempotency_key=f"{len(world.sandboxes.specs)}",
        lifetime=timedelta(minutes=5),
        pauses=True,
        metadata={name: value for name, value in marks.items() if value},
    )
    return world.sandboxes.create(spec, within=timedelta(seconds=1)).sandbox_id


def tick(
    world: World, *, everything: bool = False, time_left_s: Callable[[], float] = lambda: 60.0
) -> CleanupReport:
    """Lets cleanup do its work once."""
    return world.cleanup(everything=everything, time_left_s=time_left_s)


# ── Whose is it? ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "row",
    [
        None,
        idle(state=SessionState.CLOSED, sandbox=None),
        idle(claim_id="claim-2", sandbox=sandbox("sbx2")),
        creating(claim_id="claim-2"),
        idle(sandbox=sandbox("sbx2")),
        unreadable(),
        unreadable(claim_id="claim-1"),
    ],
    ids=[
        "no row",
        "closed",
        "other claim",
        "other claim, creating",
        "other sandbox",
        "unreadable",
        "half unreadable",
    ],
)
def test_a_sandbox_that_its_chats_row_does_not_lead_to_is_killed(world: World, row: Session | None) -> None:
    make(world)
    world.store.point(creating())
    if row is not None:
        world.store.begin(row, seen=None)
    world.clock.advance(GROWN)

    report = tick(world)

    assert (report.orphans, report.failed) == (1, 0)
    assert world.sandboxes.killed == ["sbx1"]
    assert "sandbox.orphan_killed" in world.events()


@pytest.mark.parametrize("claim", ["claim-1", ""], ids=["claim points nowhere", "no claim"])
def test_a_sandbox_that_leads_to_no_chat_is_killed(world: World, claim: str) -> None:
    make(world, claim)
    world.clock.advance(GROWN)

    assert tick(world).orphans == 1
    assert world.sandboxes.alive == {}


def test_a_paused_orphan_is_killed_too(world: World) -> None:
    world.sandboxes.paused.add(make(world))
    world.clock.advance(GROWN)

    assert tick(world).orphans == 1
    assert world.sandboxes.alive == {}


def test_a_sandbox_that_somebody_may_be_about_to_note_is_left_alone(world: World) -> None:
    make(world)
    world.clock.advance(GROWN - MILLISECOND)
    assert tick(world).orphans == 0

    world.clock.advance(MILLISECOND)
    assert tick(world).orphans == 1


@pytest.mark.parametrize(
    "row",
    [
        creating(),
        creating(claim_until=START),
        idle(),
        busy(),
        idle(pauses_at=START),
        closing(claim_until=START + timedelta(hours=1)),
    ],
    ids=["creating", "creator died", "idle", "busy", "paused", "closing"],
)
def test_a_sandbox_that_a_row_leads_to_is_left_alone_however_old(world: World, row: Session) -> None:
    make(world)
    world.store.point(row)
    world.store.begin(row, seen=None)
    world.clock.advance(timedelta(minutes=20))

    assert tick(world).orphans == 0
    assert list(world.sandboxes.alive) == ["sbx1"]


def test_what_calls_have_made_and_use_is_left_alone(world: World) -> None:
    world.run()
    world.lose_sandbox()
    world.run()
    world.clock.advance(GROWN)

    report = tick(world)

    assert (report.orphans, report.live) == (0, 1)
    assert told(world.run()) == ("reused", 2, None)


def test_what_a_replaced_generation_left_behind_is_killed(world: World) -> None:
    """Its successor could not kill it then."""
    world.run()
    world.clock.advance(timedelta(minutes=30))
    world.taps["sandboxes"].fail("kill", DOWN)
    world.run()
    world.beside.settle()
    assert list(world.sandboxes.alive) == ["sbx1", "sbx2"]

    assert tick(world).orphans == 1
    assert list(world.sandboxes.alive) == ["sbx2"]


def test_what_a_creator_made_that_died_before_it_could_note_it_stays_for_who_takes_over(world: World) -> None:
    world.taps["store"].fail("activate", StoreUnavailable("throttled"))
    with pytest.raises(StoreUnavailable):
        world.run()
    world.clock.advance(TWO_WINDOWS - MILLISECOND)

    assert tick(world).orphans == 0
    assert world.run().execution.context.sandbox_id == "sbx1"


def test_nobody_takes_over_what_reconciling_may_be_about_to_kill(world: World) -> None:
    """A tick had found no claim that leads to the sandbox; then a caller took the claim over, and got it."""
    world.taps["store"].fail("activate", StoreUnavailable("throttled"))
    with pytest.raises(StoreUnavailable):
        world.run()
    world.clock.advance(TWO_WINDOWS)

    assert told(world.run()) == ("new", 2, None)
    assert list(world.sandboxes.alive) == ["sbx1", "sbx2"]

    world.clock.advance(GROWN)
    assert tick(world).orphans == 1
    assert list(world.sandboxes.alive) == ["sbx2"]


def test_what_a_creator_made_whose_session_then_expired_is_killed(world: World) -> None:
    world.taps["store"].fail("activate", StoreUnavailable("throttled"))
    with pytest.raises(StoreUnavailable):
        world.run()
    world.clock.advance(timedelta(minutes=31))

    report = tick(world)

    assert (report.ended, report.orphans) == (1, 1), "the row did not know of it"
    assert world.sandboxes.alive == {}


@pytest.mark.parametrize(
    "metadata", [{"stack": "another"}, {"app": "another"}, {"app": "", "stack": "", "claim": ""}], ids=str
)
def test_what_is_not_of_this_stack_is_never_touched(world: World, metadata: dict[str, str]) -> None:
    make(world, **metadata)
    world.clock.advance(timedelta(days=1))

    for everything in (False, True):
        report = tick(world, everything=everything)
        assert (report.orphans, report.live) == (0, 0)
    assert list(world.sandboxes.alive) == ["sbx1"]


# ── The sweep ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a tick see four sandboxes, two at a time."""
    monkeypatch.setattr(reconcile, "PAGE", 2)
    monkeypatch.setattr(reconcile, "PAGES_PER_TICK", 2)


def pages_read(world: World) -> int:
    """Returns how many pages have been read since the last look."""
    return world.calls().count("sandboxes.page")


@pytest.mark.usefixtures("small_pages")
def test_a_sweep_goes_on_where_the_last_tick_stopped_and_then_tells_how_many_there_are(world: World) -> None:
    for _ in range(7):
        make(world)

    assert [tick(world).live for _ in range(4)] == [None, 7, None, 7]
    assert pages_read(world) == 2 * (2 + 2)


@pytest.mark.usefixtures("small_pages")
def test_what_lies_behind_the_first_ticks_is_found_too(world: World) -> None:
    for _ in range(5):
        make(world)
        world.store.point(idle())
    world.clock.advance(GROWN)
    lost = make(world, "lost")
    world.store.begin(idle(sandbox=None), seen=None)
    world.clock.advance(GROWN)

    assert [tick(world).orphans for _ in range(2)] == [0, 1]
    assert world.sandboxes.killed == [lost]


@pytest.mark.usefixtures("small_pages")
def test_a_tick_without_time_stops_and_the_next_goes_on(world: World) -> None:
    for _ in range(7):
        make(world)
    left = iter([60.0, 9.9])

    reports = [tick(world, time_left_s=lambda: next(left)), tick(world), tick(world)]

    assert [report.live for report in reports] == [None, None, 7]
    assert pages_read(world) == 1 + 2 + 1


def test_a_sweep_without_sandboxes_ends_at_once(world: World) -> None:
    assert tick(world).live == 0
    assert pages_read(world) == 1


def test_a_full_page_is_looked_up_in_one_request(world: World) -> None:
    asked: list[int] = []

    def claimants(claim_ids: Any) -> Any:
        asked.append(len(claim_ids))
        return world.store.claimants(claim_ids)

    for number in range(reconcile.PAGE + 1):
        make(world, f"claim-{number}")
    world.clock.advance(GROWN)
    world.taps["store"].instead["claimants"] = claimants
    world.taps["sandboxes"].instead["kill"] = lambda _: None

    assert tick(world).live == reconcile.PAGE + 1
    assert asked == [100, 1]


# ── What fails ──────────────────────────────────────────────────────────────────────────────────────


def test_a_sandbox_that_cannot_be_killed_holds_up_no_other_and_is_tried_again(world: World) -> None:
    for _ in range(3):
        make(world)
    world.clock.advance(GROWN)
    world.taps["sandboxes"].fail("kill", RuntimeError("boom"))

    first, second = tick(world), tick(world)

    assert (first.orphans, first.failed) == (2, 1)
    assert (second.orphans, second.failed) == (1, 0)
    assert ("reconcile.failed", {"error": "RuntimeError"}) in world.journal.notes


FAILING = [DOWN, NotConfigured("no key"), StoreUnavailable("throttled"), SandboxGone("404"), RuntimeError("boom")]


@pytest.mark.parametrize("error", FAILING, ids=repr)
@pytest.mark.parametrize("call", ["sandboxes.page", "store.claimants", "sweeps.read", "sweeps.write"])
def test_a_sweep_that_fails_is_told_and_what_has_expired_is_ended_all_the_same(
    world: World, call: str, error: Exception
) -> None:
    world.run()
    world.clock.advance(timedelta(minutes=31))
    make(world)
    world.clock.advance(GROWN)
    port, method = call.split(".")
    world.taps[port].fail(method, error)

    report = tick(world)

    assert (report.ended, report.failed) == (1, 1)
    assert ("reconcile.failed", {"error": type(error).__name__}) in world.journal.notes
    assert world.journal.notes[-1][0] == "cleanup.ended"


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("error", [DOWN, NotConfigured("bad token"), RuntimeError("boom")], ids=repr)
def test_after_a_failure_the_sweep_starts_over_for_its_place_may_be_what_was_refused(
    world: World, error: Exception
) -> None:
    world.sweeps.write(Sweep("4", 4))
    world.taps["sandboxes"].fail("page", error)

    tick(world)

    assert world.sweeps.read() == Sweep()


@pytest.mark.usefixtures("small_pages")
def test_where_e2b_is_busy_the_sweep_keeps_its_place(world: World) -> None:
    for _ in range(7):
        make(world)
    tick(world)
    place = world.sweeps.read()
    world.taps["sandboxes"].fail("page", CapacityExhausted("slow down"))

    busy_tick = tick(world)

    assert (busy_tick.failed, busy_tick.live) == (1, None)
    assert world.sweeps.read() == place == Sweep("4", 4)
    assert tick(world).live == 7


def test_two_failures_in_a_row_are_told_and_no_more(world: World) -> None:
    world.taps["sandboxes"].fail("page", DOWN)
    world.taps["sweeps"].fail("write", StoreUnavailable("throttled"))

    assert tick(world).failed == 1
    assert [facts for event, facts in world.journal.notes if event == "reconcile.failed"] == [
        {"error": "SandboxUnavailable"},
        {"error": "StoreUnavailable"},
    ]


# ── What is noted ───────────────────────────────────────────────────────────────────────────────────


def test_how_many_there_are_is_noted_once_a_sweep_has_ended(world: World) -> None:
    make(world)
    world.run(key=CHAT)
    world.clock.advance(GROWN)

    tick(world)

    counts = {"expired": 0, "killed": 0, "orphans": 1, "skipped": 0, "failed": 0}
    assert world.journal.notes[-1] == ("cleanup.ended", counts | {"live": 2})
    tick(world, time_left_s=lambda: 5.0)
    assert world.journal.notes[-1] == ("cleanup.ended", counts | {"orphans": 0})
