"""`NotebookStore` on memory and on two DynamoDB emulators."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandkeeper.adapters.dynamodb import DynamoNotebookStore
from sandkeeper.adapters.dynamodb.notebooks import AT_ONCE, INLINE_BYTES
from sandkeeper.adapters.memory import MemoryNotebookStore
from sandkeeper.adapters.s3 import S3PartBodies
from sandkeeper.errors import StoreUnavailable
from sandkeeper.model import ChatKey
from sandkeeper.notebooks import CellRun, Change, Notebook, Part, Plan
from sandkeeper.ports import NotebookStore
from tests.contract.conftest import Backend
from tests.notebooks import NOTEBOOK_ID, delta, edit, notebook, part, parts_of, ref, showing, slot
from tests.world import CHAT, START

OF_OTHERS = [
    ChatKey("bob", CHAT.chat_id),
    ChatKey(CHAT.owner, f"{CHAT.chat_id}2"),
    ChatKey(f"{CHAT.owner}#{CHAT.chat_id}", "x"),
]
LARGE = '"' + "é" * INLINE_BYTES + '"'


def added(store: NotebookStore, *cells: str, **changes: Any) -> Notebook:
    """Adds a notebook with these cells."""
    made = notebook(*cells, **changes)
    store.add(made, parts_of(made))
    return made


def texts_of(store: NotebookStore, made: Notebook) -> dict[str, str]:
    """Returns cell id → what it says."""
    read = store.texts(made, [each.source for each in made.slots])
    return {each.cell_id: read[each.source.stamp] for each in made.slots if each.source.stamp in read}


def head_of(store: NotebookStore) -> Notebook:
    """Returns the head of the one notebook that there is."""
    found = store.get(CHAT, NOTEBOOK_ID)
    assert found is not None
    return found


class NotebookStoreContract:
    """The cases; a subclass gives `store`."""

    def test_what_is_added_is_found_as_it_was(self, store: NotebookStore) -> None:
        run = CellRun(execution_id="run-1", source_version=1, begun_at=START, plan_id="plan-1")
        over = replace(run, ended_at=START + timedelta(seconds=1), succeeded=False)
        made = notebook(
            slot("a", run=run, outputs=part("shown").ref, count=3),
            slot("b", kind="markdown", run=over),
            metadata={"kernelspec": {"name": "größe"}},
            plan=Plan(plan_id="plan-1", left=("b", "c"), stops=True, limit_ms=5_000),
        )
        store.add(made, parts_of(made))

        assert store.get(CHAT, NOTEBOOK_ID) == made
        assert [*store.latest(CHAT, limit=10)] == [made]
        assert store.count(CHAT) == 1

    def test_one_that_never_was_is_none(self, store: NotebookStore) -> None:
        assert store.get(CHAT, NOTEBOOK_ID) is None
        assert [*store.latest(CHAT, limit=10)] == []
        assert [*store.deltas(CHAT, NOTEBOOK_ID, after=0, limit=10)] == []

    def test_the_latest_come_first_and_the_rest_behind_them(self, store: NotebookStore) -> None:
        for number in (2, 1, 3):
            added(store, "a", notebook_id=f"n{number}")

        first = store.latest(CHAT, limit=2)
        rest = store.latest(CHAT, limit=2, before=first[-1].notebook_id)

        assert [each.notebook_id for each in (*first, *rest)] == ["n3", "n2", "n1"]

    def test_a_change_is_written_with_its_parts_and_told(self, store: NotebookStore) -> None:
        change = edit(added(store, "a", "b"))

        assert store.commit(change)

        assert head_of(store) == change.after
        assert texts_of(store, change.after) == {"a": '{"source":"2"}', "b": '{"source":"1"}'}
        assert [*store.deltas(CHAT, NOTEBOOK_ID, after=1, limit=10)] == [change.delta]

    def test_parts_that_a_change_replaces_are_gone(self, store: NotebookStore) -> None:
        before = added(store, "a", "b")
        store.commit(edit(before))

        assert set(texts_of(store, before)) == {"b"}

    @pytest.mark.parametrize("text", ['{"source":"x"}', LARGE], ids=["small", "large"])
    def test_of_two_editors_of_one_version_exactly_one_wins(self, store: NotebookStore, text: str) -> None:
        before = added(store, "a", "b")
        first, second = edit(before, "a", text), edit(before, "b", text.replace("x", "y"))

        assert store.commit(first)
        assert not store.commit(second)

        assert head_of(store) == first.after
        assert texts_of(store, first.after) == {"a": text, "b": '{"source":"1"}'}
        assert [*store.deltas(CHAT, NOTEBOOK_ID, after=0, limit=10)] == [first.delta]
        assert store.texts(before, [second.parts[0].ref]) == {}

    def test_of_many_at_once_one_wins(self, store: NotebookStore) -> None:
        before = added(store, *"abcdefgh")
        changes = [edit(before, cell) for cell in "abcdefgh"]

        with ThreadPoolExecutor(8) as threads:
            won = [*threads.map(store.commit, changes)]

        assert won.count(True) == 1
        assert head_of(store) == changes[won.index(True)].after
        assert set(texts_of(store, head_of(store))) == {*"abcdefgh"}

    def test_a_change_of_what_is_gone_does_nothing(self, store: NotebookStore) -> None:
        made = added(store, "a")
        store.remove(made, delta(2, kind="notebook.deleted"))

        assert not store.commit(edit(made))

        assert store.get(CHAT, NOTEBOOK_ID) is None
        assert [each.kind for each in store.deltas(CHAT, NOTEBOOK_ID, after=0, limit=10)] == ["notebook.deleted"]

    def test_as_many_cells_as_there_may_be_change_at_once_or_not_at_all(self, store: NotebookStore) -> None:
        ids = [f"cell-{number}" for number in range(200)]
        before = added(store, *ids)
        new = [Part(f"new-{cell_id}", '{"source":"new"}') for cell_id in ids]
        slots = tuple(slot(cell_id, source=made.ref, version=2) for cell_id, made in zip(ids, new, strict=True))
        after = replace(before, version=2, edited=2, slots=slots)
        told = delta(2, kind="notebook.updated", cell_id=None)
        lost = replace(
            edit(before, "cell-0"), after=replace(after, title="lost"), parts=[part(f"lost-{n}") for n in ids]
        )

        assert store.commit(Change(before=before, after=after, delta=told, parts=new))
        assert not store.commit(lost)

        assert head_of(store) == after
        assert set(texts_of(store, after).values()) == {'{"source":"new"}'}
        assert texts_of(store, before) == {}
        assert store.texts(after, [each.ref for each in lost.parts]) == {}

    def test_parts_may_be_larger_than_a_row(self, store: NotebookStore) -> None:
        change = showing(added(store, "a"), "a", LARGE * 3)
        outputs = change.parts[0].ref

        assert store.commit(change)
        assert store.texts(change.after, [outputs, ref("gone", 500_000)]) == {outputs.stamp: LARGE * 3}

        gone = replace(change.after, version=3, slots=(slot("a"),))
        assert store.commit(Change(before=change.after, after=gone, delta=delta(3)))
        assert store.texts(change.after, [outputs]) == {}

    def test_changes_are_told_in_their_order_from_any_on(self, store: NotebookStore) -> None:
        head = added(store, "a")
        for _ in range(11):
            change = edit(head)
            assert store.commit(change)
            head = change.after

        assert [each.version for each in store.deltas(CHAT, NOTEBOOK_ID, after=9, limit=10)] == [10, 11, 12]
        assert [each.version for each in store.deltas(CHAT, NOTEBOOK_ID, after=0, limit=3)] == [2, 3, 4]

    def test_what_is_removed_is_gone_with_its_parts(self, store: NotebookStore) -> None:
        before = added(store, "a", "b")
        other = added(store, "a", notebook_id=f"{NOTEBOOK_ID}2")
        change = showing(before, "a", LARGE)
        store.commit(change)

        assert not store.remove(before, delta(2, kind="notebook.deleted"))
        assert store.remove(change.after, delta(3, kind="notebook.deleted"))

        assert store.get(CHAT, NOTEBOOK_ID) is None
        assert store.texts(change.after, [*change.after.refs.values()]) == {}
        assert set(texts_of(store, other)) == {"a"}

    def test_what_is_left_of_a_notebook_can_be_swept(self, store: NotebookStore) -> None:
        made = added(store, "a")
        store.commit(showing(made, "a", LARGE))

        store.sweep(CHAT, NOTEBOOK_ID)
        store.sweep(CHAT, NOTEBOOK_ID)

        assert texts_of(store, made) == {}

    @pytest.mark.parametrize("other", OF_OTHERS)
    def test_other_chats_and_owners_see_nothing_of_it(self, store: NotebookStore, other: ChatKey) -> None:
        made = added(store, "a")
        store.commit(edit(made))
        theirs = replace(head_of(store), key=other)

        assert store.get(other, NOTEBOOK_ID) is None
        assert [*store.latest(other, limit=10)] == []
        assert store.count(other) == 0
        assert [*store.deltas(other, NOTEBOOK_ID, after=0, limit=10)] == []
        assert store.texts(theirs, [*theirs.refs.values()]) == {}
        assert not store.commit(edit(theirs))
        assert not store.remove(theirs, delta(3, kind="notebook.deleted"))
        store.sweep(other, NOTEBOOK_ID)
        assert set(texts_of(store, head_of(store))) == {"a"}


class TestInMemory(NotebookStoreContract):
    @pytest.fixture
    def store(self) -> NotebookStore:
        return MemoryNotebookStore()


@pytest.fixture(scope="module")
def beside() -> Iterator[Executor]:
    """Threads, as a function has them."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


def on(backend: Backend, beside: Executor) -> DynamoNotebookStore:
    """Returns a store on the emulator."""
    return DynamoNotebookStore(backend.table, S3PartBodies(lambda: backend.client("s3"), backend.name), beside)


class OutOfService(Exception):
    """The machine is gone in the middle of its work."""


class TestOnMoto(NotebookStoreContract):
    @pytest.fixture
    def store(self, moto: Backend, beside: Executor) -> NotebookStore:
        return on(moto, beside)

    def test_nothing_of_a_removed_notebook_is_left_but_that_it_was(
        self, store: NotebookStore, moto: Backend
    ) -> None:
        made = added(store, "a")
        change = showing(made, "a", LARGE)
        store.commit(change)
        store.remove(change.after, delta(3, kind="notebook.deleted"))

        rows = moto.client("dynamodb").scan(TableName=moto.name)["Items"]

        assert {row["sk"]["S"].partition("#")[0] for row in rows} == {"DELTA"}
        assert {int(row["ttl"]["N"]) for row in rows} == {round((START + timedelta(days=1)).timestamp())}
        assert "Contents" not in moto.client("s3").list_objects_v2(Bucket=moto.name)

    @pytest.mark.parametrize("count", [1, AT_ONCE + 1], ids=["small", "large"])
    def test_whoever_dies_over_a_change_leaves_the_notebook_as_it_was(
        self, store: NotebookStore, moto: Backend, beside: Executor, count: int
    ) -> None:
        before = added(store, *(f"cell-{number}" for number in range(count)))
        dying = on(replace_client(moto, "transact_write_items", OutOfService()), beside)
        new = [part(f"new-{number}", LARGE) for number in range(count)]

        with pytest.raises(OutOfService):
            dying.commit(replace(edit(before, "cell-0"), parts=new))

        assert head_of(store) == before
        assert len(texts_of(store, before)) == count
        assert store.commit(edit(before, "cell-0"))
        assert store.remove(head_of(store), delta(3, kind="notebook.deleted"))
        assert "Contents" not in moto.client("s3").list_objects_v2(Bucket=moto.name)

    @pytest.mark.parametrize(
        ("reason", "is_lost"),
        [
            ("ConditionalCheckFailed", True),
            ("TransactionConflict", True),
            ("ThrottlingError", False),
            ("ProvisionedThroughputExceeded", False),
        ],
    )
    def test_a_transaction_is_lost_to_others_or_the_table_is_busy(
        self, moto: Backend, beside: Executor, reason: str, *, is_lost: bool
    ) -> None:
        made = added(on(moto, beside), "a")
        reply: Any = {
            "Error": {"Code": "TransactionCanceledException", "Message": ""},
            "CancellationReasons": [{"Code": "None"}, {"Code": reason}],
        }
        failure = moto.client("dynamodb").exceptions.TransactionCanceledException(reply, "TransactWriteItems")
        store = on(replace_client(moto, "transact_write_items", failure), beside)

        if is_lost:
            assert not store.commit(edit(made))
        else:
            with pytest.raises(StoreUnavailable):
                store.commit(edit(made))

    @pytest.mark.parametrize("code", ["ThrottlingException", "InternalServerError", "RequestLimitExceeded"])
    def test_a_table_that_throttles_is_told_as_such(self, moto: Backend, beside: Executor, code: str) -> None:
        store = on(moto, beside)
        made = added(store, "a")
        failure: Exception = ClientError({"Error": {"Code": code, "Message": ""}}, "TransactWriteItems")
        with pytest.raises(StoreUnavailable):
            on(replace_client(moto, "transact_write_items", failure), beside).commit(edit(made))

        assert head_of(store) == made


def replace_client(backend: Backend, operation: str, failure: Exception) -> Backend:
    """Returns the backend with a table of which one operation fails."""

    class Failing:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return self._fail if name == operation else getattr(self._real, name)

        def _fail(self, **_: Any) -> Any:
            raise failure

    real: Callable[[str], Any] = backend.client
    return Backend(backend.name, lambda name: Failing(real(name)) if name == "dynamodb" else real(name))


class TestOnMinistack(NotebookStoreContract):
    @pytest.fixture
    def store(self, ministack: Backend, beside: Executor) -> NotebookStore:
        return on(ministack, beside)
