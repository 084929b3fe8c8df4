"""`ArtifactCatalog` on memory and on two DynamoDB emulators."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.adapters.dynamodb import DynamoArtifactCatalog
from sandkeeper.adapters.memory import MemoryArtifactCatalog
from sandkeeper.model import ArtifactStatus, ChatKey
from sandkeeper.ports import ArtifactCatalog
from tests.contract.conftest import Backend
from tests.factories import artifact
from tests.world import CHAT, START

KEPT = [artifact(), artifact(1, status=ArtifactStatus.SKIPPED, reason="too large", address=None)]
OF_OTHERS = [
    ChatKey("bob", CHAT.chat_id),
    ChatKey(CHAT.owner, f"{CHAT.chat_id}2"),
    ChatKey(f"{CHAT.owner}#{CHAT.chat_id}", "x"),
]


class ArtifactCatalogContract:
    """The cases; a subclass gives `catalog`."""

    def test_what_is_added_is_found_as_it_was(self, catalog: ArtifactCatalog) -> None:
        assert [*catalog.add(KEPT)] == KEPT

        assert [*catalog.of_run(CHAT, "run-1")] == KEPT
        assert [*catalog.of_chat(CHAT)] == KEPT

    @pytest.mark.parametrize("path", ["/home/user/žluťoučký 🐎.csv", "/home/user/a/b/c'\" #.png"])
    def test_paths_may_be_anything_that_can_be_printed(self, catalog: ArtifactCatalog, path: str) -> None:
        catalog.add([artifact(path=path)])

        assert [found.path for found in catalog.of_run(CHAT, "run-1")] == [path]

    def test_what_was_added_first_for_a_run_stays(self, catalog: ArtifactCatalog) -> None:
        catalog.add(KEPT)
        later = [replace(each, address="elsewhere") for each in KEPT]

        assert [*catalog.add(later)] == KEPT
        assert [*catalog.of_run(CHAT, "run-1")] == KEPT

    def test_a_run_without_any_has_none(self, catalog: ArtifactCatalog) -> None:
        catalog.add(KEPT)

        assert [*catalog.of_run(CHAT, "run-2")] == []

    def test_the_latest_run_comes_first_and_its_files_in_their_order(self, catalog: ArtifactCatalog) -> None:
        for run in ("run-2", "run-1", "run-3"):
            catalog.add([artifact(number, execution_id=run) for number in range(11)])

        found = [each.artifact_id for each in catalog.of_chat(CHAT)]

        assert found == [f"{run}-{number}" for run in ("run-3", "run-2", "run-1") for number in range(11)]

    @pytest.mark.parametrize("other", OF_OTHERS)
    def test_other_chats_and_owners_see_nothing_of_it(self, catalog: ArtifactCatalog, other: ChatKey) -> None:
        catalog.add(KEPT)

        assert [*catalog.of_run(other, "run-1")] == []
        assert [*catalog.of_chat(other)] == []

    def test_the_most_that_a_run_may_report_fits_into_its_record(self, catalog: ArtifactCatalog) -> None:
        path = "/home/user/" + "é" * 500
        most = [artifact(number, path=f"{path}{number}") for number in range(100)]
        catalog.add(most)

        assert [*catalog.of_run(CHAT, "run-1")] == most

    def test_more_than_a_page_of_the_store_is_listed_whole(self, catalog: ArtifactCatalog) -> None:
        """A page of a query ends at 1 MB."""
        for run in range(15):
            catalog.add(
                [
                    artifact(number, execution_id=f"run-{run}", path="/home/user/" + "x" * 900)
                    for number in range(100)
                ]
            )

        assert len(catalog.of_chat(CHAT)) == 1_500


class TestInMemory(ArtifactCatalogContract):
    @pytest.fixture
    def catalog(self) -> ArtifactCatalog:
        return MemoryArtifactCatalog()


class TestOnMoto(ArtifactCatalogContract):
    @pytest.fixture
    def catalog(self, moto: Backend) -> ArtifactCatalog:
        return DynamoArtifactCatalog(moto.table)

    def test_a_record_is_dropped_after_30_days(self, catalog: ArtifactCatalog, moto: Backend) -> None:
        catalog.add(KEPT)

        (row,) = moto.client("dynamodb").scan(TableName=moto.name)["Items"]
        assert int(row["ttl"]["N"]) == round((START + timedelta(days=30)).timestamp())


class TestOnMinistack(ArtifactCatalogContract):
    @pytest.fixture
    def catalog(self, ministack: Backend) -> ArtifactCatalog:
        return DynamoArtifactCatalog(ministack.table)
