"""What a wire is: how a maker's requests are read, and its replies written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from examples.chat.models import Turn

PIECE_CHARS = 12
MODEL = "scripted"
"""What the script is called where a model's id is asked for."""


class Unfit(Exception):
    """A request is not as the maker's API wants it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a tool's call, as it was sent."""

    text: str
    is_error: bool
    images: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a model is asked, whoever made it: the last question, and what came of the calls since."""

    system: str
    question: str
    results: Sequence[Result]
    tools: Sequence[str]


class Wire(Protocol):
    """A maker's way to ask and to answer."""

    name: str
    content_type: str

    def is_asked(self, path: str) -> bool:
        """Whether a request to this path is one for a model."""

    def knows(self, headers: Mapping[str, str]) -> bool:
        """Whether there are credentials, of the maker's form."""

    def read(self, body: Any) -> Request:
        """Returns what is asked. Raises `Unfit`."""

    def write(self, turn: Turn) -> Iterator[bytes]:
        """Yields the turn as events, a few characters at a time."""

    def refusal(self, status: int, detail: str) -> tuple[bytes, Mapping[str, str]]:
        """Returns body and headers of an error."""


def pieces(text: str) -> Iterator[str]:
    """Yields the text a few characters at a time, as a model writes it."""
    for start in range(0, len(text), PIECE_CHARS):
        yield text[start : start + PIECE_CHARS]


def since_asked(questions: Sequence[tuple[str, Sequence[Result]]]) -> tuple[str, Sequence[Result]]:
    """Returns the last question with its results. Raises `Unfit` where there is none."""
    if not questions:
        raise Unfit("nothing is asked")
    return questions[-1]


def matched(called: Sequence[str], answered: Sequence[str]) -> None:
    """Returns if each call of the turn before is answered, and no other. Raises `Unfit`."""
    if sorted(called) != sorted(answered):
        raise Unfit(f"calls {[*called]} are answered by results of {[*answered]}")
