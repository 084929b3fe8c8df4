"""`RunLog` on memory and on two emulators of DynamoDB and S3."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from sandkeeper.adapters.dynamodb import DynamoRunLog
from sandkeeper.adapters.memory import MemoryRunLog
from sandkeeper.adapters.s3 import S3RunBodies
from sandkeeper.model import MAX_CODE_CHARS, ChatKey, Display, EndReason, Output, Raised, RunEnd, Stream
from sandkeeper.outputs import CHART
from sandkeeper.ports import Reservation, RunLog
from sandkeeper.runs import MAX_OUTPUT_BYTES, Accepted, Ended, Execution, RunEvent, Started
from tests.contract.conftest import Backend
from tests.contract.sessions import ODD_CHATS, ODD_OWNERS, at_once
from tests.factories import context, opened
from tests.world import CHAT, OWNER, START

WANTED = Reservation("run-1", "digest-1")
OTHER = Reservation("run-2", "digest-2")
LARGE = Stream("stdout", "größer\n" * 20_000)
"""More than a row takes."""

OUTPUTS: dict[str, Sequence[Output]] = {
    "nothing": [],
    "streams": [Stream("stdout", "größe 🐎\n"), Stream("stderr", "\x1b[31mred\0\udc80"), Stream("stdout", "")],
    "a result": [Display({"text/plain": "42", "text/html": "<b>42</b>"}, is_main_result=True)],
    "every form": [
        Display(
            {
                "image/png": "iVBORw0KGgo=",
                "application/json": {"deep": [1, 2.5, None, True, {"": []}]},
                CHART: {"type": "bar", "elements": [{"label": "ü", "value": 1e-300}]},
                "application/vnd.odd+json": [],
            }
        )
    ],
    "an error": [Raised("ValueError", "größe", "Traceback …\n\x1b[0m")],
    "much": [LARGE, Display({"text/plain": "x" * 50_000}), Raised("E" * 60_000, "", "")],
    "as much as may be": [Stream("stdout", "x" * (MAX_OUTPUT_BYTES - 10)), Stream("stderr", "the end\n")],
}


def ended(
    *outputs: Output, end: RunEnd = RunEnd.FINISHED, reset: EndReason | None = None, **changes: Any
) -> Execution:
    """Returns the run `run-1` of CHAT with these outputs and this end; an event every three milliseconds."""
    run = opened(**changes)
    told = [Accepted(run.code, run.context), Started(reset), *outputs, Ended(end)]
    at = [run.created_at + timedelta(milliseconds=3 * number) for number in range(len(told))]
    return replace(run, events=[*map(RunEvent, range(1, len(told) + 1), at, told)])


def reserve(runs: RunLog, wanted: Reservation, owner: str = OWNER, key: str = "key-1") -> Reservation:
    """Returns what the key stands for."""
    return runs.reserve(owner, key, wanted, now=START)


class RunLogContract:
    """The cases; a subclass gives `runs`."""

    # ── Idempotency keys ────────────────────────────────────────────────────────────────────────────

    def test_a_key_stands_for_the_run_that_was_first_asked_for_with_it(self, runs: RunLog) -> None:
        assert reserve(runs, WANTED) == WANTED
        assert reserve(runs, OTHER) == WANTED
        assert reserve(runs, replace(WANTED, digest="another")) == WANTED

    def test_of_20_requests_with_one_key_at_once_all_get_the_run_of_one(self, runs: RunLog) -> None:
        asked = [Reservation(f"run-{number}", f"digest-{number}") for number in range(20)]

        told = at_once(asked, lambda wanted: reserve(runs, wanted))

        assert len({*told}) == 1
        assert told[0] in asked
        assert reserve(runs, OTHER) == told[0]

    def test_keys_differ_as_their_owners_and_texts_do(self, runs: RunLog) -> None:
        keys = [(owner, key) for owner in [OWNER, *ODD_OWNERS] for key in ("key-1", "a#b", "Größe 🐎", "x" * 255)]
        wanted = {key: Reservation(f"run-{number}", "digest") for number, key in enumerate(keys)}

        for (owner, key), reservation in wanted.items():
            assert reserve(runs, reservation, owner, key) == reservation

        assert {known: reserve(runs, OTHER, *known) for known in keys} == wanted

    def test_no_two_pairs_of_owner_and_key_are_taken_for_one(self, runs: RunLog) -> None:
        reserve(runs, WANTED, "a", "bc")

        assert reserve(runs, OTHER, "ab", "c") == OTHER

    # ── Opened and finished ─────────────────────────────────────────────────────────────────────────

    def test_a_run_that_nobody_has_opened_is_not_known(self, runs: RunLog) -> None:
        runs.open(opened(execution_id="run-2"))
        reserve(runs, WANTED)

        assert runs.get(CHAT, "run-1") is None

    def test_a_run_that_is_opened_is_known_without_its_events(self, runs: RunLog) -> None:
        assert runs.open(replace(opened(), events=ended().events[:2]))

        assert runs.get(CHAT, "run-1") == opened()

    def test_a_run_that_is_known_is_not_opened_again(self, runs: RunLog) -> None:
        other = opened(code="other", context=context(claim_id="claim-2"))
        runs.open(opened())

        assert not runs.open(other)
        assert runs.get(CHAT, "run-1") == opened()
        runs.finish(ended())
        assert not runs.open(other)
        assert runs.get(CHAT, "run-1") == ended()

    @pytest.mark.parametrize("is_open", [True, False])
    @pytest.mark.parametrize("name", OUTPUTS)
    def test_a_run_that_has_ended_is_told_as_it_was_recorded(self, runs: RunLog, name: str, is_open: bool) -> None:
        run = ended(*OUTPUTS[name])
        if is_open:
            runs.open(opened())

        assert runs.finish(run)

        assert runs.get(CHAT, "run-1") == run

    @pytest.mark.parametrize("end", RunEnd)
    @pytest.mark.parametrize("reason", [None, *EndReason])
    def test_every_end_and_every_reason_is_told_as_it_was_recorded(
        self, runs: RunLog, end: RunEnd, reason: EndReason | None
    ) -> None:
        runs.open(opened())

        runs.finish(ended(end=end, reset=reason, context=context(reason=reason)))

        told = runs.get(CHAT, "run-1")
        assert told is not None
        assert (told.end, told.context.reason) == (end, reason)
        assert told.events[1].what == Started(reason)

    def test_an_end_that_nobody_has_told_is_recorded_like_any_other(self, runs: RunLog) -> None:
        lost = opened().ended(RunEnd.SANDBOX_LOST, START + timedelta(hours=1))
        runs.open(opened())

        assert runs.finish(lost)

        assert runs.get(CHAT, "run-1") == lost

    def test_the_first_end_that_is_recorded_stays(self, runs: RunLog) -> None:
        runs.open(opened())
        assert runs.finish(ended(Stream("stdout", "first")))

        assert not runs.finish(ended(end=RunEnd.CANCELLED))
        assert not runs.finish(opened().ended(RunEnd.SANDBOX_LOST, START))

        assert runs.get(CHAT, "run-1") == ended(Stream("stdout", "first"))

    @pytest.mark.parametrize("is_open", [True, False])
    @pytest.mark.parametrize("output", [Stream("stdout", "little"), LARGE], ids=["little", "much"])
    def test_of_20_ends_that_are_recorded_at_once_one_stays(
        self, runs: RunLog, output: Output, is_open: bool
    ) -> None:
        """Who ends a session tells of another end, and of fewer outputs, than who saw the run's own."""
        if is_open:
            runs.open(opened())
        ends = [ended(output, Stream("stderr", str(number)), end=[*RunEnd][number % 7]) for number in range(20)]

        written = at_once(ends, runs.finish)

        assert written.count(True) == 1
        assert runs.get(CHAT, "run-1") == ends[written.index(True)]

    def test_of_a_run_that_is_opened_and_finished_at_once_the_end_stays(self, runs: RunLog) -> None:
        """A call that leaves its run and a collector that sees its end may meet."""
        at_once([*range(8)], lambda number: runs.open(opened()) if number % 2 else runs.finish(ended()))

        assert runs.get(CHAT, "run-1") == ended()

    # ── Withdrawn ───────────────────────────────────────────────────────────────────────────────────

    def test_a_run_that_is_withdrawn_is_not_known_and_can_be_opened_for_another_sandbox(self, runs: RunLog) -> None:
        runs.open(opened())
        again = opened(context=context(claim_id="claim-2"))

        runs.withdraw(opened())

        assert runs.get(CHAT, "run-1") is None
        assert runs.open(again)
        assert runs.get(CHAT, "run-1") == again

    @pytest.mark.parametrize("known", [None, opened(context=context(claim_id="claim-2")), ended(), ended(LARGE)])
    def test_nothing_else_is_withdrawn(self, runs: RunLog, known: Execution | None) -> None:
        """Neither what another call has opened for another sandbox, nor what has ended, nor what is not there."""
        other = opened(execution_id="run-2")
        runs.open(other)
        if known is not None:
            write = runs.open if known.end is None else runs.finish
            write(known)

        runs.withdraw(opened())

        assert runs.get(CHAT, "run-1") == known
        assert runs.get(CHAT, "run-2") == other

    def test_of_a_run_that_is_withdrawn_and_finished_at_once_the_end_stays(self, runs: RunLog) -> None:
        runs.open(opened())

        at_once([*range(8)], lambda number: runs.withdraw(opened()) if number % 2 else runs.finish(ended()))

        assert runs.get(CHAT, "run-1") == ended()

    # ── Whose ───────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("chat_id", [CHAT.chat_id, *ODD_CHATS])
    @pytest.mark.parametrize("owner", ODD_OWNERS)
    def test_owners_of_any_name_see_their_own_chats_runs_alone(
        self, runs: RunLog, owner: str, chat_id: str
    ) -> None:
        theirs = ChatKey(owner, chat_id)
        runs.finish(ended(LARGE))
        assert runs.get(theirs, "run-1") is None

        runs.finish(ended(LARGE, Stream("stdout", "theirs"), key=theirs))

        assert runs.get(theirs, "run-1") == ended(LARGE, Stream("stdout", "theirs"), key=theirs)
        assert runs.get(CHAT, "run-1") == ended(LARGE)

    def test_runs_of_one_chat_are_told_apart_by_their_ids(self, runs: RunLog) -> None:
        one, other = ended(LARGE), ended(LARGE, end=RunEnd.TIMEOUT, execution_id="run-10")
        for run in (one, other):
            runs.finish(run)

        assert runs.get(CHAT, "run-1") == one
        assert runs.get(CHAT, "run-10") == other


class TestInMemory(RunLogContract):
    @pytest.fixture
    def runs(self) -> RunLog:
        return MemoryRunLog()


@dataclass(frozen=True)
class Bucket:
    """What lies in the bucket of a backend."""

    client: Any
    name: str

    def keys(self) -> list[str]:
        """Returns the keys of all objects."""
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def empty(self) -> None:
        """Removes all objects, as their lifecycle does."""
        for key in self.keys():
            self.client.delete_object(Bucket=self.name, Key=key)


class DynamoRunLogContract(RunLogContract):
    """With outputs that lie in S3; a subclass gives `backend`."""

    @pytest.fixture
    def bucket(self, backend: Backend) -> Bucket:
        return Bucket(backend.client("s3"), backend.name)

    @pytest.fixture
    def runs(self, backend: Backend) -> RunLog:
        return DynamoRunLog(backend.table, S3RunBodies(lambda: backend.client("s3"), backend.name))

    def test_little_is_kept_in_the_row_alone(self, runs: RunLog, bucket: Bucket) -> None:
        runs.finish(ended(Stream("stdout", "x" * 90_000)))

        assert bucket.keys() == []

    def test_much_lies_where_it_is_forgotten_in_time(self, runs: RunLog, bucket: Bucket) -> None:
        """The bucket's lifecycle names the prefix."""
        runs.finish(ended(LARGE))

        (key,) = bucket.keys()
        assert key.startswith("runs/")

    def test_the_longest_code_with_the_most_that_a_row_keeps_fits_into_it(self, runs: RunLog) -> None:
        """A row holds 400 KB. Code is kept as it is, of up to four bytes a character."""
        paths = [f"/home/user/{number:0>200}" for number in range(100)]
        run = ended(Stream("stdout", "x" * 99_000), code="🐎" * MAX_CODE_CHARS, context=context(paths=paths))

        assert runs.finish(run)

        assert runs.get(CHAT, "run-1") == run

    def test_of_outputs_that_are_gone_the_end_is_told(self, runs: RunLog, bucket: Bucket) -> None:
        run = ended(LARGE, end=RunEnd.TIMEOUT)
        runs.finish(run)
        bucket.empty()

        told = runs.get(CHAT, "run-1")

        assert told is not None
        assert (told.end, told.code, told.context) == (RunEnd.TIMEOUT, run.code, run.context)
        assert [event.what for event in told.events] == [Ended(RunEnd.TIMEOUT)]

    def test_every_record_is_forgotten_after_30_days(self, runs: RunLog, backend: Backend) -> None:
        def forgotten_at() -> set[int]:
            rows = backend.client("dynamodb").scan(TableName=backend.name)["Items"]
            return {int(row["ttl"]["N"]) for row in rows}

        later = round((START + timedelta(days=30)).timestamp())
        reserve(runs, WANTED)
        runs.open(opened())
        assert forgotten_at() == {later}
        runs.finish(ended(LARGE))
        assert forgotten_at() == {later}


class TestOnMoto(DynamoRunLogContract):
    @pytest.fixture
    def backend(self, moto: Backend) -> Backend:
        return moto


class TestOnMinistack(DynamoRunLogContract):
    @pytest.fixture
    def backend(self, ministack: Backend) -> Backend:
        return ministack
