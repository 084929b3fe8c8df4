"""`RunLog.latest` on memory and on two emulators of DynamoDB."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sandkeeper.adapters.dynamodb import DynamoRunLog
from sandkeeper.adapters.memory import MemoryRunLog
from sandkeeper.adapters.s3 import S3RunBodies
from sandkeeper.model import ChatKey, Display, EndReason, Output, Raised, RunEnd, Stream
from sandkeeper.ports import RunLog
from sandkeeper.runs import Accepted, Ended, Execution, RunEvent, Started
from sandkeeper.summary import NAME_CHARS, VALUE_CHARS, RunSummary
from tests.contract.conftest import Backend
from tests.contract.sessions import ODD_CHATS, ODD_OWNERS
from tests.factories import opened
from tests.world import CHAT, START

LONG_AGO = START - timedelta(days=30)
LARGE = Stream("stdout", "größer\n" * 20_000)
"""More than a row takes."""


def ran(
    number: int,
    *outputs: Output,
    end: RunEnd = RunEnd.FINISHED,
    reset: EndReason | None = None,
    key: ChatKey = CHAT,
    **changes: Any,
) -> Execution:
    """Returns the chat's run of this number, with these outputs and this end."""
    run = opened(execution_id=run_id(number), key=key, created_at=START + timedelta(minutes=number), **changes)
    told = [Accepted(run.code, run.context), Started(reset), *outputs, Ended(end, reset=end is RunEnd.KERNEL_DIED)]
    at = [run.created_at + timedelta(milliseconds=7 * place) for place in range(len(told))]
    return replace(run, events=[*map(RunEvent, range(1, len(told) + 1), at, told)])


def run_id(number: int) -> str:
    """Returns the id of a chat's run of this number."""
    return f"01JDK3R6T6V0Q8ZJ8M3H4X5{number:03d}"


def numbers(found: Sequence[RunSummary]) -> list[int]:
    """Returns the numbers of the runs."""
    return [int(each.run.execution_id[-3:]) for each in found]


def latest(
    runs: RunLog, key: ChatKey = CHAT, *, limit: int = 100, before: int | None = None
) -> Sequence[RunSummary]:
    """Returns what there is to tell of the chat's runs of the last days."""
    start = None if before is None else run_id(before)
    return runs.latest(key, since=LONG_AGO, limit=limit, before=start)


class LatestContract:
    """The cases; a subclass gives `runs`."""

    def test_a_chat_that_nobody_has_heard_of_has_no_runs(self, runs: RunLog) -> None:
        assert latest(runs) == []

    def test_runs_come_latest_first_and_are_read_on_behind_any_of_them(self, runs: RunLog) -> None:
        for number in (3, 1, 5, 2, 4):
            runs.finish(ran(number))

        assert numbers(latest(runs)) == [5, 4, 3, 2, 1]
        assert numbers(latest(runs, limit=2)) == [5, 4]
        assert numbers(latest(runs, limit=2, before=4)) == [3, 2]
        assert numbers(latest(runs, limit=2, before=2)) == [1]
        assert numbers(latest(runs, before=1)) == []

    def test_a_run_is_read_on_behind_also_when_it_is_gone(self, runs: RunLog) -> None:
        for number in (1, 3):
            runs.finish(ran(number))

        assert numbers(latest(runs, before=2)) == [1]

    @pytest.mark.parametrize(
        ("outputs", "results"),
        [
            ([], {}),
            ([Stream("stdout", "a"), Stream("stdout", "b"), Stream("stderr", "\udc80")], {"text": 2}),
            (
                [Display({"text/plain": "1"}, is_main_result=True), Display({"image/png": "iVBO"})],
                {"text": 1, "image": 1},
            ),
            ([LARGE, Raised("ValueError", "größe", "Traceback …")], {"text": 1, "error": 1}),
        ],
    )
    def test_a_run_that_has_ended_is_told_without_its_outputs(
        self, runs: RunLog, outputs: Sequence[Output], results: dict[str, int]
    ) -> None:
        runs.open(opened(execution_id=run_id(1)))
        run = ran(1, *outputs, code="print('größe')", reset=EndReason.RESTARTED)
        runs.finish(run)

        (told,) = latest(runs)

        assert told == RunSummary.of(run)
        assert told.results == results
        assert (told.run.code, told.run.context, told.run.end) == (run.code, run.context, RunEnd.FINISHED)
        assert (told.run.created_at, told.run.started_at, told.run.ended_at, told.run.run_ms) == (
            run.created_at,
            run.started_at,
            run.ended_at,
            run.run_ms,
        )
        assert told.run.reset_reason is EndReason.RESTARTED
        assert not any(isinstance(event.what, Stream | Display) for event in told.run.events)

    @pytest.mark.parametrize("end", RunEnd)
    def test_every_end_is_told_with_whether_it_has_cost_the_variables(self, runs: RunLog, end: RunEnd) -> None:
        runs.finish(ran(1, end=end))

        (told,) = latest(runs)

        assert told.run.end is end
        assert told.run.has_lost_variables == (end is RunEnd.KERNEL_DIED)

    def test_of_a_long_exception_the_beginning_is_told_and_of_many_the_last(self, runs: RunLog) -> None:
        runs.finish(ran(1, Raised("First", "", ""), Raised("E" * 5_000, "ü\ud800" * 5_000, "Traceback …")))

        (told,) = latest(runs)

        (raised,) = [event.what for event in told.run.events if isinstance(event.what, Raised)]
        assert (len(raised.name), len(raised.value), raised.traceback) == (NAME_CHARS, VALUE_CHARS, "")
        assert raised.value.encode()

    def test_an_end_that_nobody_has_told_is_told_like_any_other(self, runs: RunLog) -> None:
        lost = opened(execution_id=run_id(1)).ended(RunEnd.SANDBOX_LOST, START + timedelta(hours=1))
        runs.finish(lost)

        assert latest(runs) == [RunSummary.of(lost)]

    def test_a_run_that_is_opened_is_told_as_running_until_it_is_withdrawn_or_has_ended(self, runs: RunLog) -> None:
        one, other = (opened(execution_id=run_id(number)) for number in (1, 2))
        runs.open(one)
        runs.open(other)
        assert latest(runs) == [RunSummary(run=other), RunSummary(run=one)]

        runs.withdraw(one)
        runs.finish(ran(2))

        assert [(numbers([each]), each.run.state) for each in latest(runs)] == [([2], "ended")]

    def test_runs_that_were_begun_too_long_ago_are_left_out(self, runs: RunLog) -> None:
        for number in range(1, 5):
            runs.finish(ran(number))

        found = runs.latest(CHAT, since=START + timedelta(minutes=2), limit=100)

        assert numbers(found) == [4, 3]

    @pytest.mark.parametrize("chat_id", [CHAT.chat_id, "chat-10", *ODD_CHATS])
    @pytest.mark.parametrize("owner", ODD_OWNERS)
    def test_owners_of_any_name_see_their_own_chats_runs_alone(
        self, runs: RunLog, owner: str, chat_id: str
    ) -> None:
        theirs = ChatKey(owner, chat_id)
        runs.finish(ran(1))
        assert latest(runs, theirs) == []

        runs.finish(ran(2, key=theirs))

        assert numbers(latest(runs, theirs)) == [2]
        assert numbers(latest(runs)) == [1]


class TestInMemory(LatestContract):
    @pytest.fixture
    def runs(self) -> RunLog:
        return MemoryRunLog()


class DynamoLatestContract(LatestContract):
    """With what rows may be; a subclass gives `backend`."""

    @pytest.fixture
    def runs(self, backend: Backend) -> RunLog:
        return DynamoRunLog(backend.table, S3RunBodies(lambda: backend.client("s3"), backend.name))

    def test_more_than_a_page_of_the_table_is_told_at_once(self, runs: RunLog) -> None:
        """DynamoDB ends a page at 1 MB, and counts what is not asked for too."""
        for number in range(1, 16):
            runs.finish(ran(number, Stream("stdout", "x" * 95_000)))

        assert numbers(latest(runs, limit=14)) == [*range(15, 1, -1)]

    def test_a_list_is_told_without_what_lies_in_the_bucket(self, runs: RunLog, backend: Backend) -> None:
        runs.finish(ran(1, LARGE))
        told, client = latest(runs), backend.client("s3")
        for found in client.list_objects_v2(Bucket=backend.name)["Contents"]:
            client.delete_object(Bucket=backend.name, Key=found["Key"])

        assert latest(runs) == told
        assert told[0].output_chars == len(LARGE.text)

    def test_a_row_of_before_there_were_lists_is_told_with_its_end(self, runs: RunLog, backend: Backend) -> None:
        runs.finish(ran(1, Stream("stdout", "x"), end=RunEnd.TIMEOUT))
        (row,) = backend.client("dynamodb").scan(TableName=backend.name)["Items"]
        backend.client("dynamodb").put_item(
            TableName=backend.name, Item={name: value for name, value in row.items() if name != "brief"}
        )

        (told,) = latest(runs)

        assert (told.run.end, told.run.started_at, told.results) == (RunEnd.TIMEOUT, None, {})


class TestOnMoto(DynamoLatestContract):
    @pytest.fixture
    def backend(self, moto: Backend) -> Backend:
        return moto


class TestOnMinistack(DynamoLatestContract):
    @pytest.fixture
    def backend(self, ministack: Backend) -> Backend:
        return ministack
