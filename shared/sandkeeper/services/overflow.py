"""Keep what is too large for a reply where it can be downloaded."""

from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass

from sandkeeper.errors import SandkeeperError
from sandkeeper.model import ChatKey
from sandkeeper.ports import Journal, Link, ResultStore

KEEP_WITHIN_S = 2.0
"""How long a reply waits for it, which must not fail for that: the code has run. It may have taken all but 3 s."""


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of a type."""

    data: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class Overflow:
    """Keeps results, side by side."""

    results: ResultStore
    beside: Executor
    journal: Journal

    def keep(self, key: ChatKey, contents: Sequence[Content]) -> list[Link | None]:
        """Returns a link to each, None for what could not be kept. Equal ones are sent once."""
        sent = {
            content: self.beside.submit(self.results.keep, key, content.data, content.mime_type)
            for content in dict.fromkeys(contents)
        }
        wait(sent.values(), timeout=KEEP_WITHIN_S)
        links = {content: self._link(content, future) for content, future in sent.items()}
        return [links[content] for content in contents]

    def _link(self, content: Content, sent: "Future[Link]") -> Link | None:
        try:
            return sent.result(timeout=0)
        except (SandkeeperError, TimeoutError) as error:
            self.journal.note("result.not_kept", error=type(error).__name__, bytes=len(content.data))
            return None
