"""The time that one call may take."""

from datetime import timedelta

import pytest

from tests.world import FakeClock, Patience


@pytest.fixture
def time() -> Patience:
    """Returns time that passes when somebody sleeps."""
    return Patience(FakeClock())


def test_a_budget_is_used_up_by_time_and_never_negative(time: Patience) -> None:
    budget = time.budget(2)
    assert budget.left_s() == pytest.approx(2)

    time.clock.advance(timedelta(seconds=5))
    assert budget.left_s() == 0


@pytest.mark.parametrize(
    ("left", "step"),
    [(20, 15), (17, 15), (12, 10), (3, 1), (2, 1), (0, 1)],
)
def test_a_step_gets_what_leaves_time_for_those_after_it_and_a_second_at_least(
    time: Patience, left: float, step: float
) -> None:
    within = time.budget(left).within(15, reserve_s=2)

    assert within.total_seconds() == pytest.approx(step)


def test_pauses_grow_and_end_where_the_reserve_begins(time: Patience) -> None:
    budget = time.budget(10)
    attempt = 0
    while budget.pause(attempt, reserve_s=4):
        attempt += 1

    assert budget.left_s() == pytest.approx(4)
    assert time.slept[0] <= 0.025
    assert max(time.slept) <= 0.8
    assert max(time.slept[5:-1]) > 10 * max(time.slept[:1])


def test_where_no_more_than_the_reserve_is_left_nobody_sleeps(time: Patience) -> None:
    assert not time.budget(4).pause(0, reserve_s=4)
    assert time.slept == []
