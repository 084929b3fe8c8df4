"""The process that reads one file: `python -m sandkeeper.adapters.reading DESCRIPTOR MEMORY_BYTES`.

Takes `{"name", "contentType"}` on stdin and answers on stdout in one line of JSON: `{"reading"}`, `{"unreadable"}`,
or `{"broken"}` where our own installation is. Whatever happens to it happens to nobody else: a library that
crashes, hangs or eats memory ends this process, and the file is told as one that cannot be read.
"""

import json
import os
import resource
import sys
from dataclasses import asdict
from typing import Any

from sandkeeper.adapters.reading.content import read_content
from sandkeeper.adapters.reading.source import Source
from sandkeeper.ports import Unreadable


def main(descriptor: int, memory_bytes: int) -> None:
    """Reads the file and answers."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    asked = json.load(sys.stdin)
    # Whatever a library prints is no part of the answer.
    replies, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    said = answer(Source(descriptor, asked["name"], asked["contentType"]), memory_bytes)
    with open(replies, "w", encoding="utf-8") as reply:  # noqa: PTH123 - a descriptor has no path
        json.dump(said, reply)


def answer(source: Source, memory_bytes: int) -> dict[str, Any]:
    """Returns what is to be said of the file, whatever its reader raises."""
    try:
        return {"reading": asdict(read_content(source))}
    except Unreadable as why:
        return {"unreadable": str(why)}
    except ImportError as error:
        return {"broken": f"{type(error).__name__}: {error}"}
    except MemoryError:
        fix = "upload it in parts, or its tables as CSV or Parquet"
        return {"unreadable": f"{source.name!r} needs more than {memory_bytes} bytes of memory to be read; {fix}"}
    except BaseException as error:  # noqa: BLE001 - a Rust library's panic is no Exception
        kind = type(error).__name__
        return {"unreadable": f"{source.name!r} cannot be read ({kind}); it may be damaged: save it anew"}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
