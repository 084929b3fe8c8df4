"""`ApiKeyStore` and `ApiKeyRegister` on memory and on two DynamoDB emulators."""

from dataclasses import replace
from typing import Protocol

import pytest

from sandkeeper.adapters.dynamodb import DynamoApiKeyStore
from sandkeeper.adapters.memory import MemoryApiKeyStore
from sandkeeper.model import ApiKey
from sandkeeper.ports import ApiKeyRegister, ApiKeyStore
from tests.contract.conftest import Backend
from tests.world import START

KEY = ApiKey(token_hash="ab12", owner="auth0|žofie #1", name="her laptop", created_at=START)


class Keys(ApiKeyStore, ApiKeyRegister, Protocol):
    """What both the functions and whoever runs them use."""


class ApiKeyStoreContract:
    """The cases; a subclass gives `keys`."""

    def test_a_key_is_found_by_its_hash_as_it_was_put(self, keys: Keys) -> None:
        keys.put(KEY)

        assert keys.find(KEY.token_hash) == KEY

    @pytest.mark.parametrize("token_hash", ["ab1", "ab123", "", "AB12"])
    def test_no_other_hash_finds_it(self, keys: Keys, token_hash: str) -> None:
        keys.put(KEY)

        assert keys.find(token_hash) is None

    def test_the_same_hash_replaces_its_entry(self, keys: Keys) -> None:
        keys.put(replace(KEY, last_used_day="2026-01-02"))
        keys.put(replace(KEY, owner="bob"))

        assert keys.find(KEY.token_hash) == replace(KEY, owner="bob")

    def test_the_day_of_use_is_noted(self, keys: Keys) -> None:
        keys.put(KEY)

        keys.mark_used(KEY.token_hash, "2026-01-02")
        keys.mark_used(KEY.token_hash, "2026-01-03")

        assert keys.find(KEY.token_hash) == replace(KEY, last_used_day="2026-01-03")

    def test_a_use_brings_no_revoked_key_back(self, keys: Keys) -> None:
        keys.mark_used(KEY.token_hash, "2026-01-02")

        assert keys.find(KEY.token_hash) is None

    def test_all_keys_are_listed(self, keys: Keys) -> None:
        others = [replace(KEY, token_hash=f"ab12{number}") for number in range(3)]
        for key in [KEY, *others]:
            keys.put(key)

        assert {key.token_hash: key for key in keys.all()} == {key.token_hash: key for key in [KEY, *others]}

    def test_a_key_that_is_deleted_is_gone_and_no_other(self, keys: Keys) -> None:
        keys.put(KEY)
        keys.put(replace(KEY, token_hash="ab13"))

        keys.delete(KEY.token_hash)
        keys.delete(KEY.token_hash)

        assert [key.token_hash for key in keys.all()] == ["ab13"]
        assert keys.find(KEY.token_hash) is None


class TestInMemory(ApiKeyStoreContract):
    @pytest.fixture
    def keys(self) -> Keys:
        return MemoryApiKeyStore()


class TestOnMoto(ApiKeyStoreContract):
    @pytest.fixture
    def keys(self, moto: Backend) -> Keys:
        return DynamoApiKeyStore(moto.table)


class TestOnMinistack(ApiKeyStoreContract):
    @pytest.fixture
    def keys(self, ministack: Backend) -> Keys:
        return DynamoApiKeyStore(ministack.table)
