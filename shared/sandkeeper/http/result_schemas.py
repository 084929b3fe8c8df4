"""What a run put out, as it goes over the wire."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import Field

from sandkeeper.http.schemas import Wire
from sandkeeper.outputs import ResultItem, ResultType
from sandkeeper.ports import Link

Cell = Mapping[str, Any]
"""An output as a notebook keeps it."""


class ResultSchema(Wire):
    """One thing that the code showed, in the order of appearance."""

    type: ResultType
    content: Any = Field(description="Text; base64 for PNG, JPEG and PDF; a JSON value for json, chart, table.")
    mime_type: str

    @classmethod
    def of(cls, item: ResultItem) -> "ResultSchema":
        """Returns the item as it goes over the wire."""
        return cls(type=item.type, content=item.content, mime_type=item.mime_type)


class LinkedResult(Wire):
    """One thing that the code showed and that is too large for the reply: it is to be downloaded."""

    type: ResultType
    mime_type: str
    url: str = Field(description="Gives the content, as a download, to whoever has it.")
    size: int = Field(description="In bytes.")
    expires_in: int = Field(
        description="For how long the URL is good, in milliseconds. Asking again gives a new one."
    )

    @classmethod
    def of(cls, kind: ResultType, mime_type: str, link: Link) -> "LinkedResult":
        """Returns the link as it goes over the wire."""
        return cls(
            type=kind,
            mime_type=mime_type,
            url=link.url,
            size=link.size_bytes,
            expires_in=link.expires_in // timedelta(milliseconds=1),
        )
