"""`ArtifactContents` on memory and on two S3 emulators."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest

from sandkeeper.adapters.memory import MemoryArtifactContents
from sandkeeper.adapters.s3 import PART_BYTES, S3ArtifactContents
from sandkeeper.errors import ArtifactNotFound, SandboxUnavailable
from sandkeeper.model import Artifact
from sandkeeper.ports import ArtifactContents
from tests.contract.conftest import Backend
from tests.factories import artifact

Download = Callable[[str], bytes]
ALL_BYTES = bytes(range(256))
LARGE = ALL_BYTES * (PART_BYTES // 256 * 5 // 2)
QUARTER = timedelta(minutes=15)


def chunks_of(content: bytes, size: int = 1_000_003) -> Iterator[bytes]:
    """Yields the content in chunks of any size, empty ones among them."""
    for begin in range(0, len(content), size):
        yield content[begin : begin + size]
        yield b""


class ArtifactContentsContract:
    """The cases; a subclass gives `contents`, and `download` for what callers do without us."""

    @pytest.mark.parametrize("content", [b"", b"a,b\r\n\0\xff", ALL_BYTES, LARGE], ids=len)
    def test_content_comes_back_byte_for_byte(
        self, contents: ArtifactContents, download: Download, content: bytes
    ) -> None:
        kept = artifact(address=contents.write(artifact(), chunks_of(content)))

        assert download(contents.presign(kept, lasts=QUARTER)) == content
        assert contents.read(kept) == content

    def test_content_that_is_gone_is_told_so(self, contents: ArtifactContents) -> None:
        with pytest.raises(ArtifactNotFound, match="is gone"):
            contents.read(artifact(address="artifacts/never-written"))

    def test_what_is_written_again_goes_elsewhere(self, contents: ArtifactContents, download: Download) -> None:
        first = artifact(address=contents.write(artifact(), iter([b"first"])))
        second = artifact(address=contents.write(artifact(), iter([b"second"])))

        assert download(contents.presign(first, lasts=QUARTER)) == b"first"
        assert download(contents.presign(second, lasts=QUARTER)) == b"second"

    @pytest.mark.parametrize("before", [0, 3 * PART_BYTES], ids=["at once", "after some parts"])
    def test_what_breaks_off_is_not_kept(
        self, contents: ArtifactContents, kept: Callable[[], int], before: int
    ) -> None:
        def broken() -> Iterator[bytes]:
            yield b"x" * before
            raise SandboxUnavailable("gone")

        with pytest.raises(SandboxUnavailable):
            contents.write(artifact(), broken())

        assert kept() == 0


class TestInMemory(ArtifactContentsContract):
    @pytest.fixture
    def contents(self) -> MemoryArtifactContents:
        return MemoryArtifactContents()

    @pytest.fixture
    def download(self, contents: MemoryArtifactContents) -> Download:
        return contents.content_at

    @pytest.fixture
    def kept(self, contents: MemoryArtifactContents) -> Callable[[], int]:
        return lambda: len(contents.kept)


class InS3:
    """What both emulators have in common: a subclass gives `backend`."""

    @pytest.fixture
    def contents(self, backend: Backend) -> ArtifactContents:
        ids = count(1)
        return S3ArtifactContents(lambda: backend.client("s3"), backend.name, lambda: str(next(ids)))

    @pytest.fixture
    def kept(self, backend: Backend) -> Callable[[], int]:
        """Returns how much there is in the bucket, unfinished uploads included."""

        def number() -> int:
            client = backend.client("s3")
            uploads = client.list_multipart_uploads(Bucket=backend.name).get("Uploads", [])
            return int(client.list_objects_v2(Bucket=backend.name)["KeyCount"]) + len(uploads)

        return number

    @pytest.mark.parametrize("name", ["out.csv", "žluťoučký 🐎.csv", 'a "b" ;c.csv', "page.html"])
    def test_a_browser_saves_it_under_its_name_and_shows_nothing(
        self, contents: ArtifactContents, name: str
    ) -> None:
        named = artifact(path=f"/home/user/{name}", mime_type="text/html")
        url = contents.presign(replace(named, address="artifacts/1"), lasts=QUARTER)

        query = parse_qs(urlsplit(url).query)
        assert query["response-content-disposition"] == [f"attachment; filename*=UTF-8''{quote(name)}"]

    def test_owners_of_any_name_have_a_folder_of_their_own(self, contents: ArtifactContents) -> None:
        addresses = {contents.write(_of(owner), iter([b"x"])) for owner in ("..", "a/b", "a%2Fb", "a b", "a+b")}

        folders = {address.rpartition("/")[0] for address in addresses}
        assert len(folders) == 5
        assert all(address.count("/") == 3 and "/../" not in address for address in addresses)


class TestOnMoto(InS3, ArtifactContentsContract):
    @pytest.fixture
    def backend(self, moto: Backend) -> Backend:
        return moto

    @pytest.fixture
    def download(self, moto: Backend) -> Download:
        """Returns what reads the object that the URL is signed for: moto answers in this process alone."""

        def download(url: str) -> bytes:
            key = urlsplit(url).path.removeprefix("/").removeprefix(f"{moto.name}/")
            content: bytes = moto.client("s3").get_object(Bucket=moto.name, Key=_unquoted(key))["Body"].read()
            return content

        return download


class TestOnMinistack(InS3, ArtifactContentsContract):
    @pytest.fixture
    def backend(self, ministack: Backend) -> Backend:
        return ministack

    @pytest.fixture
    def download(self) -> Download:
        return lambda url: httpx.get(url, timeout=30, trust_env=False).raise_for_status().content


def _of(owner: str) -> Artifact:
    made = artifact()
    return replace(made, key=replace(made.key, owner=owner))


def _unquoted(key: str) -> str:
    return httpx.URL(f"http://none/{key}").path.removeprefix("/")
