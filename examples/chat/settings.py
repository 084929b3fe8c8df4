"""What a chat is asked for, by variables of the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, TypeVar, get_args

from examples.chat.models import Dialect
from examples.chat.stack import ROOT

Provider = Literal["scripted", "anthropic", "openai", "bedrock"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
SAMPLE = ROOT / "local" / "data" / "employee_data.csv"
NOTEBOOK = ROOT / "demo-output" / "conversation.ipynb"

Word = TypeVar("Word", bound=str)


class BadSetting(Exception):
    """A variable is missing or wrong; the message names it and the fix, and never quotes a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is asked for."""

    provider: Provider
    wire: Dialect
    """Over whose wire the script is asked."""
    model: str
    question: str
    file: Path
    notebook: Path
    service_url: str
    """Empty: a service of this chat's own."""
    service_token: str = field(repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Returns what the environment asks for; an empty variable asks for nothing. Raises `BadSetting`."""
        given = {name: value for name, value in environment.items() if value}
        url = given.get("SANDKEEPER_URL", "")
        if url and "SANDKEEPER_TOKEN" not in given:
            raise BadSetting("SANDKEEPER_TOKEN is not set: SANDKEEPER_URL needs an API key of that service")
        file = Path(given.get("FILE", SAMPLE))
        if not file.is_file():
            raise BadSetting(f"FILE={str(file)!r} is no file: name one that is to be uploaded")
        return cls(
            provider=_one_of(PROVIDERS, "PROVIDER", given.get("PROVIDER", "scripted")),
            wire=_one_of(DIALECTS, "WIRE", given.get("WIRE", "anthropic")),
            model=given.get("MODEL", ""),
            question=given.get("QUESTION", ""),
            file=file,
            notebook=Path(given.get("NOTEBOOK", NOTEBOOK)),
            service_url=url,
            service_token=given.get("SANDKEEPER_TOKEN", ""),
        )


def _one_of(known: tuple[Word, ...], name: str, given: str) -> Word:
    for word in known:
        if given == word:
            return word
    raise BadSetting(f"{name}={given!r} is none of {', '.join(known)}")
