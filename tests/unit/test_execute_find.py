"""Finding the run of a request that was sent before, while its call is still at it, or is no more."""

from datetime import timedelta

import pytest

from sandkeeper.errors import SessionBusy
from sandkeeper.model import RunEnd
from sandkeeper.runs import Execution
from tests.factories import busy, context, creating, ended, opened
from tests.world import CHAT, CallerDied, Patience, World

MINUTE = timedelta(minutes=1)


def begin_unheard(world: World) -> str:
    """Begins a run that goes on, of which its caller never hears, and returns its id."""
    world.run()
    world.sandboxes.program = lambda *_: None
    world.taps["sandboxes"].die_after("run")
    with pytest.raises(CallerDied):
        world.run()
    run_id = world.row().run_id
    assert run_id is not None
    return run_id


def find(world: World, patience: Patience, run_id: str = "run-1") -> Execution | None:
    """Finds the run as a call would that repeats another."""
    return world.wiring.executions.find(CHAT, run_id, patience.budget(28), reserve_s=3)


def test_what_was_never_begun_is_not_found(world: World, patience: Patience) -> None:
    assert find(world, patience) is None
    world.run()
    assert find(world, patience) is None


def test_what_is_being_begun_is_waited_for(world: World, patience: Patience) -> None:
    world.store.begin(creating(), seen=None)

    def go_on() -> None:
        world.sandboxes.alive["sbx1"] = {}
        world.store.activate(busy())

    patience.events = [lambda: None, go_on, lambda: world.runs.finish(ended())]

    assert find(world, patience) == ended()
    assert len(patience.slept) == 3


def test_what_is_being_begun_for_too_long_is_told_as_busy(world: World, patience: Patience) -> None:
    hour = world.clock() + 60 * MINUTE
    world.store.begin(creating(claim_until=hour), seen=None)

    with pytest.raises(SessionBusy, match="another call with this Idempotency-Key"):
        find(world, patience)

    assert sum(patience.slept) == pytest.approx(25)


@pytest.mark.parametrize(
    "row", [creating(claim_until=None), busy(run_until=None)], ids=["creating", "about to ask for it"]
)
def test_what_its_call_has_left_unbegun_is_not_found(world: World, patience: Patience, row: object) -> None:
    world.sandboxes.alive["sbx1"] = {}
    world.store.begin(row, seen=None)  # type: ignore[arg-type]

    assert find(world, patience) is None


def test_what_goes_on_is_found(world: World, patience: Patience) -> None:
    run_id = begin_unheard(world)

    found = find(world, patience, run_id)

    assert found is not None
    assert found.end is None


def test_what_was_opened_in_a_sandbox_that_is_gone_is_found_to_be_lost(world: World, patience: Patience) -> None:
    world.runs.open(opened(context=context(claim_id="gone")))

    found = find(world, patience)

    assert found is not None
    assert found.end is RunEnd.SANDBOX_LOST
