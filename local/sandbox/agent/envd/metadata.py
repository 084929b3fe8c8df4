"""A file's own metadata, kept in extended attributes where the file system has them."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from starlette.datastructures import Headers

_HEADER = "x-metadata-"
_ATTRIBUTE = "user.e2b."


def from_headers(headers: Headers) -> dict[str, str]:
    """The metadata that `X-Metadata-*` headers carry; of a repeated header, the first value."""
    given = ((name[len(_HEADER) :], headers[name]) for name in headers if name.startswith(_HEADER))
    return {name: value for name, value in given if name}


def write(path: Path, metadata: Mapping[str, str]) -> None:
    """The file has this metadata and none of what it had before, if its file system keeps any."""
    with contextlib.suppress(OSError):
        for name in read(path).keys() - metadata.keys():
            os.removexattr(path, _ATTRIBUTE + name)
        for name, value in metadata.items():
            os.setxattr(path, _ATTRIBUTE + name, value.encode())


def read(path: Path) -> dict[str, str]:
    """The file's metadata; empty for what has none or cannot have any."""
    try:
        names = [name for name in os.listxattr(path) if name.startswith(_ATTRIBUTE)]
        return {name.removeprefix(_ATTRIBUTE): os.getxattr(path, name).decode(errors="replace") for name in names}
    except OSError:
        return {}
