"""The file that is read, as its readers see it."""

import os
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path

TABLE_SUFFIXES = (".csv", ".tsv")
TABLE_TYPES = ("text/csv", "text/tab-separated-values")

HEAD_BYTES = 4096
"""Enough for what any format begins with."""


@dataclass(frozen=True)
class Source:
    """An open file, and what its uploader called it. It may have no name in any folder."""

    descriptor: int
    name: str
    content_type: str = "application/octet-stream"

    @property
    def path(self) -> str:
        """Where the file can be opened once more, with a position of its own."""
        return f"/proc/self/fd/{self.descriptor}"

    @cached_property
    def size_bytes(self) -> int:
        """The file's size."""
        return os.fstat(self.descriptor).st_size

    @cached_property
    def head(self) -> bytes:
        """The first bytes."""
        return os.pread(self.descriptor, HEAD_BYTES, 0)

    @property
    def is_called_a_table(self) -> bool:
        """Whether its name or type promises a table of text."""
        by_type = self.content_type.split(";")[0].strip().lower() in TABLE_TYPES
        return by_type or self.name.lower().endswith(TABLE_SUFFIXES)

    def open(self) -> BufferedReader:
        """Returns the file, opened at its beginning."""
        return Path(self.path).open("rb")
