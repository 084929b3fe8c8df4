"""What a tick of cleanup reads does not depend on how many sessions live; `bench.cleanup` counts with 100,000."""

from bench.cleanup import EXPIRED, tick


def test_a_tick_costs_the_same_with_twenty_times_as_many_live_sessions() -> None:
    few, many = (tick(live, sandboxes=EXPIRED + 50) for live in (100, 2_000))
    assert (few.requests, few.items_read) == (many.requests, many.items_read)
    assert few.report == many.report
    assert few.report.ended == EXPIRED
