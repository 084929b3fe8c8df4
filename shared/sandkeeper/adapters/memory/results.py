"""Results that are too large for a reply, in memory."""

from datetime import timedelta
from hashlib import sha256

from sandkeeper.model import ChatKey
from sandkeeper.ports import Link


class MemoryResultStore:
    """`ResultStore` in a dictionary. Its links lead nowhere: tests look at `kept`."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[ChatKey, bytes, str]] = {}
        """URL → whose, the content, and its type."""

    def keep(self, key: ChatKey, content: bytes, mime_type: str) -> Link:
        """See `ResultStore.keep`."""
        digest = sha256(f"{key}{mime_type}".encode() + content).hexdigest()
        url = f"https://results.invalid/{digest}"
        self.kept[url] = key, content, mime_type
        return Link(url, size_bytes=len(content), expires_in=timedelta(hours=1))
