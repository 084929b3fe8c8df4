"""Workers die right before or after any of their I/O calls: who comes next can go on, and is told the truth.

Every scenario is first gone through once to find its I/O calls; then it is repeated for each of them, and a real
process gets SIGKILL there. Who comes next is one of several in turn; all of them, after each, is `make crash`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import pytest

from tests.crashing.chat import Chat
from tests.crashing.outcome import Outcome
from tests.crashing.scenarios import SCENARIOS, Scenario
from tests.crashing.service import Service, running_service
from tests.stack import RunningStack

TICK_S = 300
LONG_AFTER_S = 2 * 3600

KNOWN = {
    "artifact_catalog.add",
    "artifact_contents.write",
    "catalog.of_chat",
    "contents.read",
    "runs.finish",
    "runs.get",
    "runs.open",
    "runs.reserve",
    "sandboxes.cancel",
    "sandboxes.connect",
    "sandboxes.create",
    "sandboxes.extend",
    "sandboxes.follow",
    "sandboxes.kill",
    "sandboxes.page",
    "sandboxes.prepare",
    "sandboxes.read_file",
    "sandboxes.run",
    "sandboxes.write_file",
    "store.activate",
    "store.begin",
    "store.begin_close",
    "store.begin_expire",
    "store.claim",
    "store.claimants",
    "store.end",
    "store.expired",
    "store.leave",
    "store.live",
    "store.note_sandbox",
    "store.owned",
    "store.point",
    "store.read",
    "store.release",
    "sweeps.read",
    "sweeps.write",
}


@pytest.fixture(scope="module")
def service(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Workers of the service that may die."""
    with running_service(stack, tmp_path_factory.mktemp("crashing")) as running:
        yield running


FirstTime = Callable[[Scenario], Outcome]
Ending = Callable[[Chat, float], None]


@pytest.fixture(scope="module")
def first_time(service: Service) -> FirstTime:
    """Tells what came of a scenario in which nobody died."""

    @cache
    def of(scenario: Scenario) -> Outcome:
        chat = Chat(service)
        try:
            scenario.before(chat)
            return chat.act(scenario.do, scenario.at_s)
        finally:
            chat.remove()

    return of


def a_caller_comes(chat: Chat, at_s: float) -> None:
    """The next caller need not wait; cleanup then leaves the chat's own sandbox alone, until it has expired."""
    own = chat.call(at_s)
    chat.come_back(at_s)
    chat.clean_up(at_s + TICK_S)
    assert chat.alive() == [own]
    chat.clean_up(at_s + LONG_AFTER_S)
    assert chat.alive() == []
    chat.come_back(at_s + LONG_AFTER_S)


def a_tick_comes_first(chat: Chat, at_s: float) -> None:
    """Cleanup comes before the next caller, and the session has not expired by then."""
    chat.clean_up(at_s + TICK_S)
    own = chat.call(at_s + TICK_S)
    chat.clean_up(at_s + 2 * TICK_S)
    assert chat.alive() == [own]


def nobody_comes(chat: Chat, at_s: float) -> None:
    """Cleanup ends all that is left, and the chat can begin anew."""
    chat.clean_up(at_s + LONG_AFTER_S)
    assert chat.alive() == []
    chat.come_back(at_s + LONG_AFTER_S)
    own = chat.call(at_s + LONG_AFTER_S)
    assert chat.alive() == [own]


def its_caller_comes_back(chat: Chat, at_s: float) -> None:
    """Whoever wanted the run asks for it before anybody else comes."""
    chat.come_back(at_s)
    own = chat.call(at_s)
    assert chat.alive() == [own]
    chat.come_back(at_s)


def _endings(scenario: Scenario) -> Iterator[Ending]:
    yield a_caller_comes
    if scenario.creates:
        yield a_tick_comes_first
    if scenario.blocks_s:  # else a worker holds nothing that could be left behind
        yield nobody_comes
    if scenario.is_asked_for:
        yield its_caller_comes_back


def moments_before(then: Ending, scenario: Scenario, moments: Sequence[str]) -> Sequence[str]:
    """Returns at which of the moments a worker is to die before this ending: all endings together have them all.

    Moments come in pairs, before a call and after it. Each ending gets some of both.
    """
    if os.environ.get("EVERY_ENDING"):
        return moments
    endings = [*_endings(scenario)]
    turns = len(endings)
    chosen = [moment for at, moment in enumerate(moments) if (at + at // turns) % turns == endings.index(then)]
    return chosen or moments[-1:]


ENDINGS = [
    pytest.param(scenario, then, id=f"{scenario}-{then.__name__}")
    for scenario in SCENARIOS
    for then in _endings(scenario)
]


@pytest.mark.parametrize(("scenario", "then"), ENDINGS)
def test_nothing_is_lost_or_left_behind_when_a_worker_dies(
    service: Service,
    first_time: FirstTime,
    scenario: Scenario,
    then: Ending,
    subtests: pytest.Subtests,
) -> None:
    for moment in moments_before(then, scenario, scenario.moments(first_time(scenario))):
        with subtests.test(f"{scenario}: dies {moment}, then {then.__name__}"):
            chat = Chat(service)
            try:
                scenario.before(chat)
                chat.die(scenario.do, scenario.at_s, moment)
                chat.let_go_on()
                then(chat, scenario.at_s + scenario.blocks_s)
            finally:
                chat.remove()


@pytest.mark.parametrize("count", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_endings_leave_out_no_moment_between_them(scenario: Scenario, count: int) -> None:
    moments = [f"moment {number}" for number in range(count)]
    chosen = [moments_before(then, scenario, moments) for then in _endings(scenario)]
    assert {moment for some in chosen for moment in some} == {*moments}
    assert all(chosen)


def test_all_kinds_of_calls_are_died_at(first_time: FirstTime) -> None:
    found = {call.split("#")[0] for scenario in SCENARIOS for call in first_time(scenario).calls}
    assert found >= KNOWN
