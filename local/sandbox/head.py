"""The head of an HTTP/1 request: read, and written for a connection that ends with the answer."""

import urllib.parse
from dataclasses import dataclass

_MAX_BYTES = 64 * 1024
_CONNECTION_HEADERS = {"connection", "keep-alive", "proxy-connection"}


class BadRequestError(Exception):
    """Raised for a head that is no HTTP/1 request, or names a sandbox badly."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request's first line and headers, and what came after them."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    rest: bytes

    @classmethod
    def parse(cls, data: bytes) -> "Head | None":
        """The head that `data` starts with, or None while it is incomplete."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > _MAX_BYTES:
                raise BadRequestError(f"the headers are longer than {_MAX_BYTES} bytes")
            return None
        first, *lines = data[:end].decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequestError("not an HTTP/1 request")
        pairs = (line.partition(":") for line in lines)
        headers = tuple((name, value.strip()) for name, _, value in pairs)
        return cls(words[0], words[1], headers, data[end + 4 :])

    def get(self, name: str) -> str | None:
        """The value of a header."""
        return next((value for known, value in self.headers if known.lower() == name), None)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The parameters behind the question mark."""
        return dict(urllib.parse.parse_qsl(self.target.partition("?")[2]))

    def closing(self) -> bytes:
        """The head and what follows, asking for the connection's end after the answer; upgrades as is."""
        kept = self.headers
        if self.get("upgrade") is None:
            kept = (
                *(pair for pair in kept if pair[0].lower() not in _CONNECTION_HEADERS),
                ("Connection", "close"),
            )
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in kept)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.rest
