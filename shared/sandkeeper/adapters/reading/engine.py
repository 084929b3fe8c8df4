"""DuckDB, within bounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from sandkeeper.ports import Unreadable

MEMORY_MIB = 256
"""What DuckDB may hold in memory; reading a table takes as much as its widest rows, however many there are."""
THREADS = 2
"""As many as the function has processors."""


@contextmanager
def connected() -> Iterator[duckdb.DuckDBPyConnection]:
    """Opens a DuckDB that keeps nothing, writes nothing and knows no network."""
    config: dict[str, Any] = {
        "memory_limit": f"{MEMORY_MIB}MiB",
        "threads": THREADS,
        # Nothing that we ask for has to be spilled: rather an error than a full disk.
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(":memory:", config=config) as connection:
        # It would be printed.
        connection.execute("SET enable_progress_bar = false")
        yield connection


@contextmanager
def told(name: str, why: str) -> Iterator[None]:
    """Turns DuckDB's errors into `Unreadable`. Their own text quotes the content, and so is not passed on."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise Unreadable(
            f"{name!r} needs more than {MEMORY_MIB} MiB of memory to be read; upload it in parts"
        ) from None
    except duckdb.Error:
        raise Unreadable(f"{name!r} {why}") from None


def quoted(text: str) -> str:
    """Returns the text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
