"""`RunLog.withdraw` on memory and on two emulators of DynamoDB."""

import pytest

from sandkeeper.adapters.dynamodb import DynamoRunLog
from sandkeeper.adapters.memory import MemoryRunLog
from sandkeeper.adapters.s3 import S3RunBodies
from sandkeeper.ports import RunLog
from sandkeeper.runs import Execution
from tests.contract.conftest import Backend
from tests.factories import context, ended, opened
from tests.world import CHAT


class WithdrawnContract:
    """The cases; a subclass gives `runs`."""

    def test_a_run_that_is_withdrawn_is_known_no_more_and_can_be_opened_again(self, runs: RunLog) -> None:
        again = opened(context=context(claim_id="claim-2"))
        runs.open(opened())

        runs.withdraw(opened())

        assert runs.get(CHAT, "run-1") is None
        assert runs.open(again)
        assert runs.get(CHAT, "run-1") == again

    @pytest.mark.parametrize(
        "known", [ended(), opened(context=context(claim_id="claim-2"))], ids=["ended", "other"]
    )
    def test_what_has_ended_or_was_opened_otherwise_stays(self, runs: RunLog, known: Execution) -> None:
        (runs.open if known.end is None else runs.finish)(known)

        runs.withdraw(opened())

        assert runs.get(CHAT, "run-1") == known

    def test_withdrawing_what_is_not_known_does_nothing(self, runs: RunLog) -> None:
        runs.open(opened(execution_id="run-2"))

        runs.withdraw(opened())

        assert runs.get(CHAT, "run-2") == opened(execution_id="run-2")


class TestInMemory(WithdrawnContract):
    @pytest.fixture
    def runs(self) -> RunLog:
        return MemoryRunLog()


class TestOnMoto(WithdrawnContract):
    @pytest.fixture
    def runs(self, moto: Backend) -> RunLog:
        return DynamoRunLog(moto.table, S3RunBodies(lambda: moto.client("s3"), moto.name))


class TestOnMinistack(WithdrawnContract):
    @pytest.fixture
    def runs(self, ministack: Backend) -> RunLog:
        return DynamoRunLog(ministack.table, S3RunBodies(lambda: ministack.client("s3"), ministack.name))
