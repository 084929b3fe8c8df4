"""What the chat needs of a model, whoever makes it.

A conversation is questions (`Asked`), what the model says and calls (`Turn`), and what came of its calls
(`Answered`). What others send is bounded and checked here: a model may say anything.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, Protocol

PictureType = Literal["image/png", "image/jpeg"]
"""The types of pictures that every maker takes."""
Dialect = Literal["anthropic", "openai", "bedrock"]
"""How the API calls those in whose words it has the tools."""
Heard = Callable[[str], object]
Tool = Mapping[str, Any]

MOST_CHARS = 400_000
"""More than any model says in one turn."""
MOST_TOKENS = 8_192
"""How long a turn may be."""
SHOWN_CHARS = 300


class ModelFailed(Exception):
    """There is no turn of the model. The message says why; asking again may help."""


class BadCall(Exception):
    """A call that the model has made is not usable; the message tells the model why."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that code has shown."""

    mime_type: PictureType
    data: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model calls. `arguments` is what it wrote, which may be anything."""

    id: str
    name: str
    arguments: str

    def inputs(self) -> dict[str, Any]:
        """Returns the arguments as an object. Raises `BadCall`."""
        try:
            read = json.loads(self.arguments or "{}", parse_constant=_no_json)
            json.dumps(read, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise BadCall(f"the arguments are no JSON: {str(error)[:SHOWN_CHARS]}") from None
        if not isinstance(read, dict):
            raise BadCall("the arguments are no JSON object")
        return read

    def inputs_or_none(self) -> dict[str, Any]:
        """Returns the arguments; an empty object for what is none, as those want it who take nothing else back."""
        try:
            return self.inputs()
        except BadCall:
            return {}


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user asks."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the model says, and what it calls. It is done when it calls nothing."""

    text: str = ""
    calls: Sequence[Call] = ()
    blocks: Sequence[Any] = ()
    """The same in the maker's own words, where it wants all of it back: reasoning, too, and in its order."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a call, as text and pictures for the model."""

    call: Call
    text: str
    is_error: bool = False
    images: Sequence[Image] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of all calls of a turn; and a note of ours on it."""

    results: Sequence[ToolResult]
    note: str = ""


Message = Asked | Turn | Answered


class Model(Protocol):
    """A model that can be asked."""

    @property
    def dialect(self) -> Dialect:
        """In whose words it is told of tools."""

    def reply(self, system: str, messages: Sequence[Message], tools: Sequence[Tool], on_text: Heard) -> Turn:
        """Returns the model's turn; `on_text` hears what it says, as it does. Raises `ModelFailed`."""

    def close(self) -> None:
        """Lets go of its connections."""


@dataclass
class Listening:
    """A turn as it comes, piece by piece. Raises `ModelFailed` for one without end."""

    on_text: Heard
    said: list[str] = field(default_factory=list)
    calls: dict[int, "Calling"] = field(default_factory=dict)
    chars: int = 0

    def text(self, piece: str) -> str:
        """Returns the piece, which the model says, as text that can be printed and sent."""
        self._grow(piece)
        sound = sound_text(piece)
        self.said.append(sound)
        self.on_text(sound)
        return sound

    def call(self, index: int, call_id: str | None, name: str | None) -> None:
        """Notes the call at this place. Its id and name may come later."""
        calling = self.calls.setdefault(index, Calling())
        calling.id, calling.name = call_id or calling.id, name or calling.name

    def arguments(self, index: int, piece: str) -> None:
        """Notes a piece of that call's arguments."""
        self._grow(piece)
        self.calls.setdefault(index, Calling()).pieces.append(piece)

    def _grow(self, piece: str) -> None:
        self.chars += len(piece)
        if self.chars > MOST_CHARS:
            raise ModelFailed(f"the model's turn is longer than {MOST_CHARS:,} characters: it was broken off")

    def made(self) -> list[Call]:
        """Returns the calls, in their order."""
        made = [call.made() for _, call in sorted(self.calls.items())]
        if not all(call.id and call.name for call in made):
            raise ModelFailed("the model calls a tool without saying which, or under which id")
        return made

    def turn(self, blocks: Sequence[Any] = ()) -> Turn:
        """Returns all of it."""
        return Turn(text="".join(self.said), calls=self.made(), blocks=blocks)


@dataclass
class Calling:
    """A call as it comes."""

    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    def made(self) -> Call:
        """Returns the call."""
        return Call(self.id, self.name, "".join(self.pieces))


def sound_text(text: str) -> str:
    """Returns the text without what cannot be encoded."""
    return text.encode(errors="replace").decode()


@contextmanager
def mapped(maker: str, describe: Callable[[Exception], str], *foreign: type[Exception]) -> Iterator[None]:
    """Raises `ModelFailed` for the maker's errors, and for a reply that is none of its own."""
    try:
        yield
    except foreign as error:
        raise ModelFailed(f"{maker}: {sound_text(describe(error))[:SHOWN_CHARS]}") from error
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ModelFailed(f"{maker}: what came is none of its replies ({type(error).__name__})") from error


def ended(maker: str, reason: str | None, *good: str) -> None:
    """Returns if the model has come to its end by itself, and raises `ModelFailed` otherwise."""
    if reason is None:
        raise ModelFailed(f"{maker}: the reply broke off before its end")
    if reason not in good:
        raise ModelFailed(f"{maker}: the model stopped before its end: {reason[:SHOWN_CHARS]!r}")
