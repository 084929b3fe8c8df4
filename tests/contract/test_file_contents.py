"""`FileContents` on memory and on two S3 emulators."""

from collections.abc import Callable

import httpx
import pytest

from sandkeeper.adapters.memory import MemoryFileContents
from sandkeeper.adapters.s3 import CHUNK_BYTES, S3FileContents, object_key
from sandkeeper.errors import FileNotFound
from sandkeeper.model import ChatKey
from sandkeeper.ports import FileContents
from tests.contract.conftest import Backend
from tests.world import CHAT

Upload = Callable[[ChatKey, str, bytes], None]
LARGE = bytes(range(256)) * (CHUNK_BYTES // 256 * 5 // 2)
Trick = Callable[[dict[str, str]], tuple[dict[str, str], bytes]]
TRICKS: dict[str, Trick] = {
    "more bytes": lambda fields: (fields, b"x" * 11),
    "many more bytes": lambda fields: (fields, LARGE),
    "another chat's place": lambda fields: (fields | {"key": object_key(ChatKey("bob", "chat"), "file-1")}, b"x"),
    "another file's place": lambda fields: (fields | {"key": object_key(CHAT, "file-2")}, b"x"),
    "a name of the browser's": lambda fields: (fields | {"key": fields["key"] + "${filename}"}, b"x"),
    "another type": lambda fields: (fields | {"Content-Type": "text/html"}, b"x"),
    "no type": lambda fields: ({name: fields[name] for name in fields if name != "Content-Type"}, b"x"),
    "open to everybody": lambda fields: (fields | {"acl": "public-read"}, b"x"),
    "leading elsewhere": lambda fields: (fields | {"success_action_redirect": "https://evil.invalid/"}, b"x"),
}
"""What somebody might try with an upload's fields. For a policy of their own they lack the key that signs it, which
S3 checks and the emulator does not."""
OWNERS = ["auth0|x", "a#b", ".", "..", "../alice", "a+b c%2F", "žluťoučký 🐎"]


class FileContentsContract:
    """The cases; a subclass gives `contents`, and `upload` for what callers do without us."""

    @pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", LARGE], ids=["nothing", "a table", "several chunks"])
    def test_content_reads_as_it_was_uploaded(self, contents: FileContents, upload: Upload, content: bytes) -> None:
        upload(CHAT, "file-1", content)

        assert b"".join(contents.read(CHAT, "file-1")) == content

    def test_missing_content_is_told_before_the_first_chunk(self, contents: FileContents) -> None:
        with pytest.raises(FileNotFound):
            contents.read(CHAT, "file-1")

    def test_deleted_content_is_gone_and_stays_so(self, contents: FileContents, upload: Upload) -> None:
        upload(CHAT, "file-1", b"content")

        contents.delete(CHAT, "file-1")
        contents.delete(CHAT, "file-1")

        with pytest.raises(FileNotFound):
            contents.read(CHAT, "file-1")

    @pytest.mark.parametrize("owner", OWNERS)
    def test_owners_of_any_name_have_contents_of_their_own(
        self, contents: FileContents, upload: Upload, owner: str
    ) -> None:
        theirs = ChatKey(owner, CHAT.chat_id)
        upload(CHAT, "file-1", b"ours")
        upload(theirs, "file-1", b"theirs")

        assert b"".join(contents.read(theirs, "file-1")) == b"theirs"
        contents.delete(theirs, "file-1")
        assert b"".join(contents.read(CHAT, "file-1")) == b"ours"

    def test_a_ticket_says_where_and_with_what(self, contents: FileContents) -> None:
        ticket = contents.presign_upload(CHAT, "file-1", max_bytes=10, content_type="text/csv")

        assert ticket.url.startswith("http")
        assert ticket.fields["Content-Type"] == "text/csv"


class TestInMemory(FileContentsContract):
    @pytest.fixture
    def contents(self) -> MemoryFileContents:
        return MemoryFileContents()

    @pytest.fixture
    def upload(self, contents: MemoryFileContents) -> Upload:
        return contents.put


class TestOnMoto(FileContentsContract):
    @pytest.fixture
    def contents(self, moto: Backend) -> FileContents:
        return S3FileContents(moto.client("s3"), moto.name)

    @pytest.fixture
    def upload(self, moto: Backend) -> Upload:
        def upload(key: ChatKey, file_id: str, content: bytes) -> None:
            moto.client("s3").put_object(Bucket=moto.name, Key=object_key(key, file_id), Body=content)

        return upload

    def test_large_content_comes_in_bounded_chunks(self, contents: FileContents, upload: Upload) -> None:
        upload(CHAT, "file-1", LARGE)

        assert max(len(chunk) for chunk in contents.read(CHAT, "file-1")) <= CHUNK_BYTES


class TestOnMinistack(FileContentsContract):
    @pytest.fixture
    def contents(self, ministack: Backend) -> FileContents:
        return S3FileContents(ministack.client("s3"), ministack.name)

    @pytest.fixture
    def upload(self, contents: FileContents) -> Upload:
        """Returns what a caller does with a ticket."""

        def upload(key: ChatKey, file_id: str, content: bytes) -> None:
            ticket = contents.presign_upload(key, file_id, max_bytes=len(content), content_type="text/csv")
            reply = httpx.post(
                ticket.url, data=dict(ticket.fields), files={"file": content}, timeout=30, trust_env=False
            )
            assert reply.is_success, reply.text

        return upload

    @pytest.mark.parametrize("attempt", TRICKS)
    def test_a_ticket_is_for_one_place_one_type_and_so_many_bytes(
        self, contents: FileContents, ministack: Backend, attempt: str
    ) -> None:
        """Whoever has the address and its fields has no other right than these."""
        ticket = contents.presign_upload(CHAT, "file-1", max_bytes=10, content_type="text/csv")
        fields, content = TRICKS[attempt](dict(ticket.fields))

        reply = httpx.post(ticket.url, data=fields, files={"file": content}, timeout=30, trust_env=False)

        assert reply.status_code in (400, 403), reply.text
        assert "Contents" not in ministack.client("s3").list_objects_v2(Bucket=ministack.name)

    def test_a_ticket_gives_no_other_right(self, contents: FileContents, upload: Upload) -> None:
        upload(CHAT, "file-1", b"content")
        ticket = contents.presign_upload(CHAT, "file-1", max_bytes=10, content_type="text/csv")
        url = f"{ticket.url.rstrip('/')}/{ticket.fields['key']}"

        for method in ("GET", "PUT", "DELETE"):
            reply = httpx.request(method, url, params=dict(ticket.fields), timeout=30, trust_env=False)
            assert reply.status_code in (400, 403), f"{method}: {reply.text}"
        assert b"".join(contents.read(CHAT, "file-1")) == b"content"
