"""Rows that this code has not written: whatever stands there, the row can be used, or be replaced and ended."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandkeeper.adapters.dynamodb import items
from sandkeeper.model import EndReason, Session, SessionState
from tests.factories import EPOCH, busy, closing, creating, idle
from tests.world import CHAT, START

Item = dict[str, Any]

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = st.one_of(
    st.integers(-(10**18), 10**18).map(str),
    st.sampled_from(
        ["0", "-1", "1.5", "1E+100", "-1E+100", "1E-100", "9" * 38, "253402300800000", "1767323045678"]
    ),
)
BYTES = st.binary(max_size=8)
SCALARS = st.one_of(
    TEXT.map(lambda value: {"S": value}),
    NUMBERS.map(lambda value: {"N": value}),
    BYTES.map(lambda value: {"B": value}),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just({"NULL": True}),
)
SETS = st.one_of(
    st.sets(TEXT, min_size=1, max_size=3).map(lambda value: {"SS": [*value]}),
    st.sets(NUMBERS, min_size=1, max_size=3).map(lambda value: {"NS": [*value]}),
    st.sets(BYTES, min_size=1, max_size=3).map(lambda value: {"BS": [*value]}),
)
NONSENSE = st.recursive(
    SCALARS | SETS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda value: {"L": value})
        | st.dictionaries(TEXT.filter(bool), inner, max_size=3).map(lambda value: {"M": value})
    ),
    max_leaves=4,
)
"""A value of each type that DynamoDB has."""

FULL = items.session_item(
    busy(
        claim_until=START,
        hydrated={"f": "/home/user/a.csv"},
        fresh_files=frozenset({"g"}),
        predecessor_id="sbx0",
        end_reason=EndReason.EXPIRED,
        untold=EndReason.KERNEL_DIED,
    )
)
"""A row in which no attribute is missing."""
ATTRIBUTES = sorted(set(FULL) - {"pk", "sk"})
KINDS = [items.session_item(row) for row in (creating(), idle(), busy(), closing())] + [FULL]


def read(row: Mapping[str, Any]) -> Session:
    """Returns what is made of the row, which must be something that can be gone on with."""
    session = items.session_of(row)
    assert session.key == CHAT
    if session.unreadable:
        assert_replaceable(session, row)
    else:
        assert_usable(session)
    return session


def assert_usable(session: Session) -> None:
    """Fails unless the session has what its state needs, and can be written back and be followed by another."""
    if session.state is SessionState.READY:
        assert session.sandbox is not None
    if session.state in (SessionState.CREATING, SessionState.CLOSING):
        assert session.claim_until is not None
    if session.run_id is not None:
        assert session.run_until is not None
    following = replace(session, generation=session.generation + 1, run_count=session.run_count + 1)
    assert items.session_of(items.session_item(following)) == following
    assert session.expires_at + timedelta(days=1) > session.expires_at


def assert_replaceable(session: Session, row: Mapping[str, Any]) -> None:
    """Fails unless callers replace the session, told as a loss, and end the sandbox that the row tells of."""
    assert (session.state, session.sandbox, session.expires_at) == (SessionState.CLOSED, None, EPOCH)
    assert session.end_reason is EndReason.SANDBOX_LOST
    assert session.predecessor_id == row.get("sandboxId", {}).get("S")
    assert session.generation >= 1
    items.session_item(replace(session, generation=session.generation + 1))
    stamped = {name: row[name] for name in items.STAMP if name in row}
    assert items.unpack(items.typed(session.stamp)) == items.unpack(stamped), "the unchanged row is recognised"


@pytest.mark.parametrize("name", ATTRIBUTES)
@given(st.data())
def test_any_attribute_may_be_nonsense(name: str, data: st.DataObject) -> None:
    row = data.draw(st.sampled_from(KINDS))

    read(row | {name: data.draw(NONSENSE)})


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(ATTRIBUTES), NONSENSE, min_size=2))
def test_several_attributes_may_be_nonsense(row: Item, nonsense: Item) -> None:
    read(row | nonsense)


@given(st.sampled_from(KINDS), st.sets(st.sampled_from(ATTRIBUTES), min_size=1))
def test_any_attributes_may_be_missing(row: Item, missing: set[str]) -> None:
    read({name: value for name, value in row.items() if name not in missing})


def test_nothing_but_the_key_may_be_there() -> None:
    assert read({name: FULL[name] for name in ("pk", "sk")}).unreadable


@given(st.dictionaries(TEXT.filter(lambda name: name not in {"", "pk", "sk"}), NONSENSE))
def test_what_else_is_in_a_row_is_of_no_interest(others: Item) -> None:
    assert read(others | FULL) == items.session_of(FULL)


@pytest.mark.parametrize(
    ("row", "missing"),
    [
        (idle(), "sandboxId"),
        (busy(), "sandboxId"),
        (busy(), "runUntil"),
        (creating(), "claimUntil"),
        (closing(), "claimUntil"),
        (idle(), "expiresAt"),
        (idle(), "state"),
        (idle(), "claimId"),
        (idle(), "generation"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.state,
)
def test_a_row_that_lacks_what_its_state_needs_is_replaced(row: Session, missing: str) -> None:
    """It could be neither used nor ended: no condition that names the attribute would ever hold."""
    whole = items.session_item(row)

    assert read({name: value for name, value in whole.items() if name != missing}).unreadable


@pytest.mark.parametrize(
    "missing",
    ["pausesAt", "createdAt", "lastUsedAt", "hydrated", "freshFiles", "runCount", "untold", "endReason", "ttl"],
)
def test_a_row_that_lacks_what_an_older_version_did_not_write_is_used(missing: str) -> None:
    row = {name: value for name, value in items.session_item(idle()).items() if name != missing}

    assert not read(row).unreadable


@pytest.mark.parametrize("name", ["generation", "runCount"])
def test_a_number_that_could_not_be_counted_on_from_is_no_count(name: str) -> None:
    assert read(FULL | {name: {"N": "1E+100"}}).unreadable


def test_fresh_files_that_are_no_set_are_none_for_nothing_could_be_added_to_them() -> None:
    assert read(FULL | {"freshFiles": {"L": [{"S": "f"}]}}).unreadable
