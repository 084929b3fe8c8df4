"""`ResultStore` on memory and on two S3 emulators."""

from abc import ABC, abstractmethod
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest

from sandkeeper.adapters.memory import MemoryResultStore
from sandkeeper.adapters.s3_results import S3ResultStore
from sandkeeper.model import ChatKey
from sandkeeper.ports import Link, ResultStore
from tests.contract.conftest import Backend
from tests.world import CHAT

OWNERS = ["auth0|x", "a#b", ".", "..", "../alice", "a+b c%2F", "žluťoučký 🐎"]
LARGE = bytes(range(256)) * 20_000


class ResultStoreContract(ABC):
    """The cases; a subclass gives `results`, and `content` for what comes of downloading a link."""

    @pytest.mark.parametrize("content", [b"", b"<b>x</b>", LARGE], ids=["nothing", "a little", "five megabytes"])
    def test_a_link_leads_to_the_very_bytes(self, results: ResultStore, content: bytes) -> None:
        link = results.keep(CHAT, content, "text/html")

        assert self.content(link) == content
        assert link.size_bytes == len(content)
        assert link.expires_in.total_seconds() > 0

    def test_equal_contents_are_kept_once(self, results: ResultStore) -> None:
        for _ in range(2):
            results.keep(CHAT, b"content", "text/html")
        assert self.count() == 1

        results.keep(CHAT, b"content", "text/plain")
        results.keep(CHAT, b"another", "text/html")
        assert self.count() == 3

    @pytest.mark.parametrize("owner", OWNERS)
    def test_owners_of_any_name_have_results_of_their_own(self, results: ResultStore, owner: str) -> None:
        ours = results.keep(CHAT, b"content", "text/html")
        theirs = results.keep(ChatKey(owner, CHAT.chat_id), b"content", "text/html")

        assert self.count() == 2
        assert self.content(ours) == self.content(theirs) == b"content"

    @abstractmethod
    def content(self, link: Link) -> bytes:
        """Returns what the link leads to."""

    @abstractmethod
    def count(self) -> int:
        """Returns how many contents are kept."""


class TestInMemory(ResultStoreContract):
    @pytest.fixture
    def results(self) -> MemoryResultStore:
        self.store = MemoryResultStore()
        return self.store

    def content(self, link: Link) -> bytes:
        return self.store.kept[link.url][1]

    def count(self) -> int:
        return len(self.store.kept)


class InABucket(ResultStoreContract):
    """What can be seen in a bucket besides."""

    backend: Backend

    def objects(self) -> list[str]:
        """Returns the keys of all objects."""
        listed = self.backend.client("s3").list_objects_v2(Bucket=self.backend.name)
        return [item["Key"] for item in listed.get("Contents", [])]

    def count(self) -> int:
        return len(self.objects())

    def test_an_object_lies_in_its_owners_folder(self, results: ResultStore) -> None:
        results.keep(ChatKey("../a", "c-1"), b"content", "text/html")

        (key,) = self.objects()
        assert key.startswith("results/o=..%2Fa/c=c-1/")

    @pytest.mark.parametrize(
        ("mime_type", "served_as"),
        [
            ("image/png", "image/png"),
            ("text/plain", "text/plain; charset=utf-8"),
            ("application/vnd.e2b.chart+json", "application/vnd.e2b.chart+json"),
            ("text/html", "application/octet-stream"),
            ("image/svg+xml", "application/octet-stream"),
            ("text/javascript", "application/octet-stream"),
            ("application/xhtml+xml", "application/octet-stream"),
            ("text/plain\r\nx-odd: 1", "application/octet-stream"),
            ("žluťoučký", "application/octet-stream"),
        ],
    )
    def test_no_browser_runs_it_in_the_buckets_origin(
        self, results: ResultStore, mime_type: str, served_as: str
    ) -> None:
        results.keep(CHAT, b"content", mime_type)

        (key,) = self.objects()
        head = self.backend.client("s3").head_object(Bucket=self.backend.name, Key=key)
        assert head["ContentDisposition"] == "attachment"
        assert head["ContentType"] == served_as


class TestOnMoto(InABucket):
    @pytest.fixture
    def results(self, moto: Backend) -> ResultStore:
        self.backend = moto
        return S3ResultStore(lambda: moto.client("s3"), moto.name)

    def content(self, link: Link) -> bytes:
        """Returns the object that the link names: moto has no server that would serve it."""
        parts = urlsplit(link.url)
        assert {name.lower() for name in parse_qs(parts.query)} & {"signature", "x-amz-signature"}
        (key,) = (key for key in self.objects() if unquote(parts.path).endswith(key))
        body: bytes = self.backend.client("s3").get_object(Bucket=self.backend.name, Key=key)["Body"].read()
        return body


class TestOnMinistack(InABucket):
    @pytest.fixture
    def results(self, ministack: Backend) -> ResultStore:
        self.backend = ministack
        return S3ResultStore(lambda: ministack.client("s3"), ministack.name)

    def content(self, link: Link) -> bytes:
        return httpx.get(link.url, trust_env=False).raise_for_status().content
