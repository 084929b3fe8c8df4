"""Runs as JSON: what a runner is sent, what is made of its answers, and what is kept of them."""

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from e2b_code_interpreter import code_interpreter_sync
from hypothesis import given
from hypothesis import strategies as st

from sandkeeper.adapters.runner import records
from sandkeeper.adapters.runner.records import kept, order_json, recalled, told_by_runner
from sandkeeper.model import Display, EndReason, Output, Raised, RunEnd, Stream, utc_moment
from sandkeeper.outputs import CHART, DATA
from sandkeeper.runs import Accepted, Ended, RunContext, RunEvent, RunOrder, Started
from tests.factories import context, order

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
MOMENTS = st.integers(0, 253_402_300_799_999).map(utc_moment)
MILLIS = st.integers(0, 10**9)
CONTEXTS = st.builds(
    RunContext,
    claim_id=TEXT,
    generation=MILLIS,
    sandbox_id=TEXT,
    status=st.sampled_from(["new", "reused", "resumed", "recreated"]),
    reason=st.none() | st.sampled_from(EndReason),
    paths=st.lists(TEXT, max_size=3),
    limit_ms=MILLIS,
    asked_ms=MILLIS,
    claim_ms=MILLIS,
    connect_ms=MILLIS,
    files_ms=MILLIS,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
FINITE = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
OUTPUTS = st.one_of(
    st.builds(Stream, st.sampled_from(["stdout", "stderr"]), TEXT),
    st.builds(Display, st.dictionaries(TEXT, FINITE, max_size=3), st.booleans()),
    st.builds(Raised, TEXT, TEXT, TEXT),
)
CODE = "1 + 1"
CONTEXT = context()
EVENTS = st.builds(
    RunEvent,
    MILLIS,
    MOMENTS,
    st.one_of(
        st.just(Accepted(CODE, CONTEXT)),
        st.builds(Started, st.none() | st.sampled_from(EndReason)),
        OUTPUTS,
        st.builds(Ended, st.sampled_from(RunEnd)),
    ),
)


def through_json(fields: Any) -> Any:
    """Returns what comes out at the other end of a wire."""
    return json.loads(json.dumps(fields))


# ── What is sent ────────────────────────────────────────────────────────────────────────────────────


@given(CONTEXTS, TEXT)
def test_an_order_comes_back_in_the_acceptance_with_all_that_was_known(known: RunContext, code: str) -> None:
    sent = through_json(order_json(RunOrder(run_id="run-1", code=code, context=known)))

    event = told_by_runner({"n": 1, "at": 0, "type": "accepted", **sent})

    assert event == RunEvent(1, utc_moment(0), Accepted(code, known))


def test_an_order_says_all_that_a_runner_needs() -> None:
    known = context(limit_ms=7_000, paths=["/home/user/a.csv", "/home/user/b/c.csv"])
    asked = order(code="é", context=known, output_bytes=100, display_bytes=200)

    sent = order_json(asked)

    assert sent.pop("about")
    assert sent == {
        "code": "é",
        "limit_ms": 7_000,
        "output_bytes": 100,
        "display_bytes": 200,
        "on_busy": "wait",
        "given": ["a.csv", "b/c.csv"],
        "digest": sha256("é".encode()).hexdigest(),
    }


def test_the_digest_stands_for_the_code_and_not_for_the_call_that_sends_it() -> None:
    """A repeated call finds its run, though it has taken other times to come so far."""
    one = order_json(order())
    again = order_json(order(context=replace(context(), claim_ms=99)))
    other = order_json(order(code="2"))

    assert one["digest"] == again["digest"] != other["digest"]


def test_code_that_is_no_text_can_be_sent() -> None:
    assert through_json(order_json(order(code="'\ud800'")))


# ── What is told ────────────────────────────────────────────────────────────────────────────────────


def told(kind: str, **fields: Any) -> Any:
    """Returns what is made of an event of this type."""
    event = told_by_runner({"n": 3, "at": 1_767_323_045_678, "type": kind, **fields})
    assert (event.number, event.at) == (3, utc_moment(1_767_323_045_678))
    return event.what


def test_outputs_keep_all_their_forms() -> None:
    chart = {"type": "bar", "title": "t", "elements": []}

    assert told("stdout", text="a") == Stream("stdout", "a")
    assert told("stderr", text="b") == Stream("stderr", "b")
    assert told("result", text="Figure", png="aGk=", chart=chart, is_main_result=True) == Display(
        {"text/plain": "Figure", "image/png": "aGk=", CHART: chart}, is_main_result=True
    )
    assert told("result", html="<b>", data={"a": [1]}, extra={"application/geo+json": {}}) == Display(
        {"text/html": "<b>", DATA: {"a": [1]}, "application/geo+json": {}}
    )
    assert told("result", text="", latex="$x$", json={}, svg=None) == Display(
        {"text/plain": "", "text/latex": "$x$", "application/json": {}}
    )
    assert told("error", name="E", value="e", traceback="E: e") == Raised("E", "e", "E: e")


def test_every_form_of_a_result_has_a_mime_type() -> None:
    fields = set(inspect.signature(code_interpreter_sync.Result.__init__).parameters)

    assert fields - {"self", "is_main_result", "extra", "kwargs"} == set(records._MIME_TYPES)


@pytest.mark.parametrize("reset", [None, EndReason.RESTARTED, EndReason.KERNEL_DIED])
def test_the_beginning_tells_whether_variables_are_gone(reset: EndReason | None) -> None:
    assert told("started", reset=reset and str(reset)) == Started(reset)


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("finished", RunEnd.FINISHED),
        ("timeout", RunEnd.TIMEOUT),
        ("cancelled", RunEnd.CANCELLED),
        ("output_limit", RunEnd.OUTPUT_LIMIT),
        ("out_of_memory", RunEnd.OUT_OF_MEMORY),
        ("kernel_died", RunEnd.KERNEL_DIED),
        ("lost", RunEnd.SANDBOX_LOST),
    ],
)
def test_every_end_of_a_runner_has_a_meaning(word: str, end: RunEnd) -> None:
    assert told("end", end=word, reset=False) == Ended(end)


GOOD: dict[str, dict[str, Any]] = {
    "accepted": order_json(order()),
    "started": {"reset": "restarted"},
    "stdout": {"text": "x"},
    "result": {"text": "x", "extra": {"a/b": 1}},
    "error": {"name": "E", "value": "e", "traceback": "t"},
    "end": {"end": "finished"},
}


@pytest.mark.parametrize("kind", GOOD)
@given(st.data())
def test_whatever_code_has_made_of_an_event_it_is_one_or_it_is_refused(kind: str, data: st.DataObject) -> None:
    """Code can write over what its runner keeps: it gets no further with that than its own run."""
    good = {"n": 1, "at": 0, "type": kind, **GOOD[kind]}
    changed = data.draw(st.dictionaries(st.sampled_from(sorted(good)), JSON, min_size=1))
    missing = data.draw(st.sets(st.sampled_from(sorted(good)), max_size=2))
    try:
        event = told_by_runner({name: value for name, value in (good | changed).items() if name not in missing})
    except (ValueError, KeyError, TypeError):
        return
    assert isinstance(event.number, int)
    assert isinstance(event.what, Accepted | Started | Ended | Output)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": float("inf")},
        {"at": 10**30},
        {"at": float("nan")},
        {"type": "exec"},
        {"type": ["end"]},
        {"end": "won"},
        {"end": ["finished"]},
        {"end": None},
    ],
    ids=str,
)
def test_what_is_no_event_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        told_by_runner({"n": 1, "at": 0, "type": "end", "end": "finished"} | fields)


@pytest.mark.parametrize("line", [[], "end", 1, None], ids=repr)
def test_what_is_no_object_is_refused(line: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        told_by_runner(line)


# ── What is kept ────────────────────────────────────────────────────────────────────────────────────


@given(EVENTS)
def test_an_event_is_recalled_as_it_was_kept(event: RunEvent) -> None:
    assert recalled(through_json(kept(event)), CODE, CONTEXT) == event


@given(CONTEXTS)
def test_a_context_is_recalled_as_it_was_kept(known: RunContext) -> None:
    assert records.context_of(through_json(records.context_json(known))) == known


Forge = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.mark.parametrize(
    "forge",
    [
        lambda fields: {name: value for name, value in fields.items() if name != "claim_id"},
        lambda fields: fields | {"status": "trusted"},
        lambda fields: fields | {"reason": "bored"},
        lambda fields: fields | {"paths": 5},
        lambda fields: fields | {"limit_ms": "soon"},
    ],
    ids=["claim", "status", "reason", "paths", "limit"],
)
def test_a_context_that_is_none_is_refused(forge: Forge) -> None:
    with pytest.raises(ValueError, match="validation error"):
        records.context_of(forge(records.context_json(context())))


def test_the_limit_of_a_run_is_a_duration() -> None:
    assert context(limit_ms=1_500).limit == timedelta(seconds=1.5)
