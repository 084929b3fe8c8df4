"""`PackageLists` on memory and on two emulators of DynamoDB."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.adapters.dynamodb import DynamoPackageLists
from sandkeeper.adapters.memory import MemoryPackageLists
from sandkeeper.ports import PackageList, PackageLists
from tests.contract.conftest import Backend
from tests.world import START

LIST = PackageList(packages={"pandas": "2.3.3", "größe": "1.0"}, run_count=3, told_at=START)
LONGEST = PackageList(packages={f"{n:0>100}": "1" * 100 for n in range(1_000)}, run_count=0, told_at=START)


class PackageListsContract:
    """The cases; a subclass gives `lists`."""

    def test_of_a_template_that_nobody_has_asked_nothing_is_known(self, lists: PackageLists) -> None:
        lists.keep("other", LIST)

        assert lists.recall("code-interpreter-v1") is None

    @pytest.mark.parametrize("known", [LIST, LONGEST, replace(LIST, packages={})], ids=["some", "many", "none"])
    def test_a_list_comes_back_as_it_was_kept(self, lists: PackageLists, known: PackageList) -> None:
        lists.keep("code-interpreter-v1", known)

        assert lists.recall("code-interpreter-v1") == known

    def test_a_list_takes_the_place_of_the_one_before(self, lists: PackageLists) -> None:
        for known in (LONGEST, LIST):
            lists.keep("team/own-1", known)

        assert lists.recall("team/own-1") == LIST


class TestInMemory(PackageListsContract):
    @pytest.fixture
    def lists(self) -> PackageLists:
        return MemoryPackageLists()


class DynamoPackageListsContract(PackageListsContract):
    """A subclass gives `backend`."""

    @pytest.fixture
    def lists(self, backend: Backend) -> PackageLists:
        return DynamoPackageLists(backend.table)

    def test_a_list_is_forgotten_after_30_days(self, lists: PackageLists, backend: Backend) -> None:
        lists.keep("code-interpreter-v1", LIST)

        (row,) = backend.client("dynamodb").scan(TableName=backend.name)["Items"]
        assert int(row["ttl"]["N"]) == round((START + timedelta(days=30)).timestamp())


class TestOnMoto(DynamoPackageListsContract):
    @pytest.fixture
    def backend(self, moto: Backend) -> Backend:
        return moto


class TestOnMinistack(DynamoPackageListsContract):
    @pytest.fixture
    def backend(self, ministack: Backend) -> Backend:
        return ministack
