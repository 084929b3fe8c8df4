"""Contents of files in one S3 bucket."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from botocore.exceptions import BotoCoreError, ClientError

from sandkeeper.errors import ArtifactNotFound, FileNotFound, NotConfigured, StoreUnavailable
from sandkeeper.model import Artifact, ChatKey, NewId, UploadTicket

CHUNK_BYTES = 1024 * 1024
UPLOAD_WITHIN_S = 900
PART_BYTES = 8 * 1024 * 1024
"""Larger artifacts are sent in parts of this size: one is in memory at a time."""

MISSING = ("NoSuchKey", "404")
TO_BE_MENDED = ("NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")
"""S3's error codes that a deployment has to mend. All others may pass: `StoreUnavailable`."""


def object_key(key: ChatKey, file_id: str) -> str:
    """Returns where a file's content lies. The prefixes keep `.` and `..` from being path segments."""
    return f"files/{folder_of(key)}/{file_id}"


def folder_of(key: ChatKey) -> str:
    """Returns where all of a chat's objects of one kind lie."""
    return f"o={quote(key.owner, safe='')}/c={key.chat_id}"


def file_at(object_key: str) -> tuple[ChatKey, str] | None:
    """Returns the chat and the file id of an object's key, None for an object that is not a chat's file."""
    match object_key.split("/"):
        case ["files", owner, chat, file_id] if owner.startswith("o=") and chat.startswith("c="):
            return ChatKey(unquote(owner[2:]), chat[2:]), file_id
    return None


@contextmanager
def our_errors(bucket: str) -> Iterator[None]:
    """Raises our errors in place of S3's."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in MISSING:
            raise FileNotFound("the file has no content") from error
        kind = NotConfigured if code in TO_BE_MENDED else StoreUnavailable
        raise kind(f"the bucket {bucket!r} (BUCKET_NAME) answers {code}") from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"the bucket {bucket!r} cannot be reached: {type(error).__name__}") from error


class S3FileContents:
    """`FileContents` in an S3 bucket."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def presign_upload(self, key: ChatKey, file_id: str, *, max_bytes: int, content_type: str) -> UploadTicket:
        """See `FileContents.presign_upload`. S3 itself refuses another key, type or a larger size."""
        with our_errors(self._bucket):
            presigned = self._client.generate_presigned_post(
                self._bucket,
                object_key(key, file_id),
                Fields={"Content-Type": content_type},
                Conditions=[{"Content-Type": content_type}, ["content-length-range", 0, max_bytes]],
                ExpiresIn=UPLOAD_WITHIN_S,
            )
        return UploadTicket(presigned["url"], presigned["fields"])

    def read(self, key: ChatKey, file_id: str) -> Iterator[bytes]:
        """See `FileContents.read`."""
        with our_errors(self._bucket):
            reply = self._client.get_object(Bucket=self._bucket, Key=object_key(key, file_id))
        return self._chunks(reply["Body"])

    def _chunks(self, body: Any) -> Iterator[bytes]:
        with our_errors(self._bucket), body:
            yield from body.iter_chunks(CHUNK_BYTES)

    def delete(self, key: ChatKey, file_id: str) -> None:
        """See `FileContents.delete`."""
        with our_errors(self._bucket):
            self._client.delete_object(Bucket=self._bucket, Key=object_key(key, file_id))


class S3RunBodies:
    """Outputs of runs that are too large for a row, in an S3 bucket."""

    def __init__(self, client: Callable[[], Any], bucket: str) -> None:
        """`client` is asked when there is such an output, which is seldom."""
        self._client = client
        self._bucket = bucket

    def write(self, key: ChatKey, execution_id: str, content: bytes) -> str:
        """Keeps the content, and returns its object's key: one of its own, since not all may tell of one end."""
        address = f"runs/{folder_of(key)}/{execution_id}-{sha256(content).hexdigest()[:16]}.json"
        with our_errors(self._bucket):
            self._client().put_object(
                Bucket=self._bucket, Key=address, Body=content, ContentType="application/json"
            )
        return address

    def read(self, address: str) -> bytes | None:
        """Returns the content, None when it is gone."""
        try:
            with our_errors(self._bucket):
                content: bytes = self._client().get_object(Bucket=self._bucket, Key=address)["Body"].read()
        except FileNotFound:
            return None
        return content


class S3PartBodies:
    """Parts of notebooks that are too large for a row, in an S3 bucket."""

    def __init__(self, client: Callable[[], Any], bucket: str) -> None:
        """`client` is asked when there is such a part, which is seldom."""
        self._client = client
        self._bucket = bucket

    def write(self, key: ChatKey, notebook_id: str, stamp: str, content: bytes) -> None:
        """Keeps the content."""
        address = _part_address(key, notebook_id, stamp)
        with our_errors(self._bucket):
            self._client().put_object(
                Bucket=self._bucket, Key=address, Body=content, ContentType="application/json"
            )

    def read(self, key: ChatKey, notebook_id: str, stamp: str) -> bytes | None:
        """Returns the content, None when it is gone."""
        address = _part_address(key, notebook_id, stamp)
        try:
            with our_errors(self._bucket):
                content: bytes = self._client().get_object(Bucket=self._bucket, Key=address)["Body"].read()
        except FileNotFound:
            return None
        return content

    def delete(self, key: ChatKey, notebook_id: str, stamp: str) -> None:
        """Removes the content. Removing what is gone does nothing."""
        with our_errors(self._bucket):
            self._client().delete_object(Bucket=self._bucket, Key=_part_address(key, notebook_id, stamp))


def _part_address(key: ChatKey, notebook_id: str, stamp: str) -> str:
    return f"notebooks/{folder_of(key)}/{notebook_id}/{stamp}.json"


class S3ArtifactContents:
    """`ArtifactContents` in an S3 bucket."""

    def __init__(self, client: Callable[[], Any], bucket: str, new_id: NewId) -> None:
        """`client` is asked when there is such a file, which is seldom."""
        self._client = client
        self._bucket = bucket
        self._new_id = new_id

    def write(self, artifact: Artifact, content: Iterator[bytes]) -> str:
        """See `ArtifactContents.write`: what is large goes there in parts."""
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415 - takes a while, and is seldom needed

        address = f"artifacts/{folder_of(artifact.key)}/{artifact.artifact_id}-{self._new_id()}"
        with our_errors(self._bucket):
            self._client().upload_fileobj(
                _Stream(content),
                self._bucket,
                address,
                ExtraArgs={"ContentType": artifact.mime_type},
                Config=TransferConfig(
                    multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False
                ),
            )
        return address

    def read(self, artifact: Artifact) -> bytes:
        """See `ArtifactContents.read`."""
        try:
            with our_errors(self._bucket):
                reply = self._client().get_object(Bucket=self._bucket, Key=artifact.address)
                content: bytes = reply["Body"].read()
        except FileNotFound as error:
            raise ArtifactNotFound(
                f"the content of artifact {artifact.artifact_id!r} is gone; run its code again"
            ) from error
        return content

    def presign(self, artifact: Artifact, *, lasts: timedelta) -> str:
        """See `ArtifactContents.presign`. As an attachment: no browser shows it within the bucket's origin."""
        name = PurePosixPath(artifact.path).name
        with our_errors(self._bucket):
            url: str = self._client().generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": artifact.address,
                    "ResponseContentDisposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
                },
                ExpiresIn=round(lasts.total_seconds()),
            )
        return url


class _Stream:
    """Chunks as a file that can be read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Returns so many of the next bytes, fewer at the end; all that are left for -1."""
        parts, length = [self._rest], len(self._rest)
        while size < 0 or length < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            length += len(chunk)
        whole = b"".join(parts)
        end = len(whole) if size < 0 else size
        self._rest = whole[end:]
        return whole[:end]
