"""Puts the runner into a sandbox: it goes there as one file of a few kilobytes, which Python runs as it is."""

import base64
import io
import marshal
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.util import MAGIC_NUMBER, find_spec
from pathlib import Path
from typing import Any

import sandkeeper.runner

_NAME = "sandkeeper.runner"
_FOLDER = Path(sandkeeper.runner.__path__[0])
_BOOTSTRAP = "bootstrap"
_UNCHECKED = (1).to_bytes(4, "little") + bytes(8)
"""Bytecode that belongs to its source, whatever hash that has."""


@cache
def start_command() -> str:
    """Returns the shell command that writes the runner and starts it; it prints `ready` once that answers.

    It needs `RUNNER_TOKEN` in its environment, and may be run any number of times, also at once.
    """
    program = _FOLDER.joinpath(f"{_BOOTSTRAP}.py").read_text()
    content = base64.encodebytes(_package()).decode()
    return f"exec python3 -I -S -c '{program}' 3<<'END'\n{content}END\n"


def _package() -> bytes:
    """Returns the package as a zip.

    A Python of our own version finds its bytecode there, which halves its start; any other takes the source.
    """
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sandkeeper/__init__.py", "")
        for path, source, bytecode in _modules():
            archive.writestr(f"{path}.py", source)
            archive.writestr(f"{path}.pyc", bytecode)
    return written.getvalue()


def _modules() -> Iterator[tuple[str, bytes, bytes]]:
    for file in sorted(_FOLDER.glob("*.py")):
        if file.stem == _BOOTSTRAP:
            continue
        name = _NAME if file.stem == "__init__" else f"{_NAME}.{file.stem}"
        loader: Any = getattr(find_spec(name), "loader", None)
        bytecode = MAGIC_NUMBER + _UNCHECKED + marshal.dumps(loader.get_code(name))
        yield f"sandkeeper/runner/{file.stem}", file.read_bytes(), bytecode
