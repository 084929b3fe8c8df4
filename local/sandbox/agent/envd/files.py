"""`GET` and `POST /files`: whole files in and out, streamed."""

import stat
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from ..access import Access
from . import metadata, multipart
from .paths import Paths

CHUNK_BYTES = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class Files:
    def __init__(self, access: Access, paths: Paths) -> None:
        self._access = access
        self._paths = paths

    async def download(self, request: Request) -> Response:
        """The file's content; gzip if that is all that the client takes."""
        self._access.require_for_file(request.headers, request.query_params, "read")
        path = self._paths.resolve(request.query_params.get("path", ""), request.query_params.get("username"))
        kind = path.stat()
        if stat.S_ISDIR(kind.st_mode):
            raise HTTPException(400, f"path {str(path)!r} is a directory: list it instead")
        if not stat.S_ISREG(kind.st_mode):
            raise HTTPException(400, f"path {str(path)!r} is not a regular file")
        # A client that lists several encodings only says what it could read: on loopback, plain is fastest.
        if request.headers.get("accept-encoding", "").strip().lower() == "gzip":
            headers = {"content-encoding": "gzip", "vary": "accept-encoding"}
            return StreamingResponse(_compressed(path.open("rb")), headers=headers, media_type=_OCTETS)
        if kind.st_size == 0:  # as everything in /proc says, whatever can be read there
            return StreamingResponse(_chunks(path.open("rb")), media_type=_OCTETS)
        return FileResponse(path, filename=path.name, content_disposition_type="inline")

    async def upload(self, request: Request) -> Response:
        """What was written: a list of name, type, path and metadata."""
        self._access.require_for_file(request.headers, request.query_params, "write")
        upload = _Upload(request, self._paths)
        match request.headers.get("content-type", "").split(";")[0].strip().lower():
            case "application/octet-stream":
                await upload.raw()
            case "multipart/form-data":
                await upload.multipart()
            case other:
                raise HTTPException(400, f"send multipart/form-data or application/octet-stream, not {other!r}")
        return JSONResponse(upload.written())


_OCTETS = "application/octet-stream"


class _Upload:
    """One upload request: its files, in the order in which they were written."""

    def __init__(self, request: Request, paths: Paths) -> None:
        self._request = request
        self._paths = paths
        self._metadata = metadata.from_headers(request.headers)
        self._written: list[Path] = []

    async def raw(self) -> None:
        path = self._request.query_params.get("path")
        if not path:
            raise HTTPException(400, "an octet-stream upload needs the query parameter 'path'")
        with self._open(path) as file:
            async for chunk in self._body():
                file.write(chunk)

    async def multipart(self) -> None:
        only = self._request.query_params.get("path")

        def choose(field: str, filename: str) -> IO[bytes] | None:
            return self._open(only or filename) if field == "file" else None

        try:
            await multipart.read(self._request.headers["content-type"], self._body(), choose)
        except multipart.MalformedError as reason:
            raise HTTPException(400, str(reason)) from reason

    def written(self) -> list[dict[str, object]]:
        """The answer; the metadata is put on the files here, when all of them are complete."""
        for path in self._written:
            metadata.write(path, self._metadata)
        extra = {"metadata": self._metadata} if self._metadata else {}
        return [{"name": path.name, "type": "file", "path": str(path), **extra} for path in self._written]

    def _open(self, name: str) -> IO[bytes]:
        path = self._paths.resolve(name, self._request.query_params.get("username"))
        if path in self._written:
            raise HTTPException(400, f"path {str(path)!r} is there twice in one upload")
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb", buffering=0)
        self._written.append(path)
        return file

    def _body(self) -> AsyncIterator[bytes]:
        match self._request.headers.get("content-encoding", "identity").lower():
            case "identity" | "":
                return self._request.stream()
            case "gzip":
                return _inflated(self._request.stream())
            case other:
                raise HTTPException(400, f"content encoding {other!r} is not read here; use 'gzip' or none")


async def _inflated(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The body decompressed, never more than a chunk of it at once."""
    inflate = zlib.decompressobj(_GZIP)
    try:
        async for compressed in body:
            pending = compressed
            while pending:
                yield inflate.decompress(pending, CHUNK_BYTES)
                pending = inflate.unconsumed_tail
                if inflate.eof:  # gzip files may be concatenated
                    pending = inflate.unused_data
                    inflate = zlib.decompressobj(_GZIP)
        yield inflate.flush()
    except zlib.error as reason:
        raise HTTPException(400, f"the gzip body cannot be read: {reason}") from reason


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _compressed(file: IO[bytes]) -> Iterator[bytes]:
    deflate = zlib.compressobj(level=1, wbits=_GZIP)
    for chunk in _chunks(file):
        yield deflate.compress(chunk)
    yield deflate.flush()
