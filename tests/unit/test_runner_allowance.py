"""How much of what a program puts out is told, before it is stopped for more."""

from typing import Any

import pytest

from sandkeeper.adapters.runner.records import order_json
from sandkeeper.runner.allowance import DISPLAY_BYTES, EVENT_BYTES, TOO_LONG, Allowance, cut_error
from sandkeeper.runs import MAX_DISPLAY_BYTES
from tests.factories import order

Event = dict[str, Any]


def allowance(text: int = 100, displayed: int = 2_000) -> Allowance:
    """Returns the allowance of a run that may put out this much."""
    asked: Any = order_json(order(output_bytes=text, display_bytes=displayed))
    return Allowance(asked)


def text(content: str, name: str = "stdout") -> Event:
    """Returns what a program wrote."""
    return {"type": name, "text": content}


def shown(size: int) -> Event:
    """Returns an object whose event has this size."""
    event = {"type": "result", "html": "", "is_main_result": False}
    return event | {"html": "x" * (size - len(str(event).replace("False", "false")))}


def test_text_is_told_up_to_its_last_byte_and_both_streams_share_it() -> None:
    left = allowance(text=10)

    assert left.take(text("123456")) == (text("123456"), True)
    assert left.take(text("7890", "stderr")) == (text("7890", "stderr"), True)
    assert left.take(text("1")) == (None, False)


def test_text_that_goes_beyond_is_told_as_far_as_it_may_be_in_whole_characters() -> None:
    left = allowance(text=4)

    assert left.take(text("aéžx")) == (text("aé"), False)
    assert left.take(text("x")) == (None, False), "what was cut once is over"


def test_text_with_halves_of_characters_is_no_failure() -> None:
    assert allowance().take(text("a\ud83d")) == (text("a\ud83d"), True)


def test_what_is_displayed_is_counted_for_itself() -> None:
    left = allowance(text=10, displayed=3_500)

    assert left.take(shown(2_000)) == (shown(2_000), True)
    assert left.take(text("1234567890")) == (text("1234567890"), True)
    assert left.take(shown(501)) == (None, False)
    assert left.take(shown(500)) == (shown(500), True), "as much as has room, whatever had none"


def test_however_little_is_displayed_it_counts_for_something() -> None:
    left = allowance(displayed=2 * EVENT_BYTES)

    assert left.take({"type": "result"}) == ({"type": "result"}, True)
    assert left.take({"type": "result"}) == (None, False)


def test_what_was_too_long_to_be_read_is_not_told() -> None:
    assert allowance().take(TOO_LONG) == (None, False)


def test_errors_without_end_are_cut_off() -> None:
    left = allowance(text=1_000)
    error = {"type": "error", "name": "E", "value": "e" * 400, "traceback": ""}

    assert [left.take(error)[1] for _ in range(3)] == [True, True, False]


def test_an_error_is_told_with_its_beginning() -> None:
    error = cut_error({"type": "error", "name": "E", "value": None, "traceback": "t" * 300_000})

    assert error == {"type": "error", "name": "E", "value": "None", "traceback": "t" * 200_000}


def test_an_order_of_before_there_was_a_bound_has_the_usual_one() -> None:
    asked: Any = {name: value for name, value in order_json(order()).items() if name != "display_bytes"}
    left = Allowance(asked)

    assert DISPLAY_BYTES == MAX_DISPLAY_BYTES
    assert left.take(shown(DISPLAY_BYTES - EVENT_BYTES))[1]
    assert not left.take(shown(100))[1]


@pytest.mark.parametrize("order_says", [None, 5_000])
def test_the_runner_passes_on_what_the_order_says(order_says: int | None) -> None:
    sent = order_json(order() if order_says is None else order(display_bytes=order_says))

    assert sent["display_bytes"] == (order_says or MAX_DISPLAY_BYTES)
