"""Puts the runner into a sandbox: it goes there as one file of a few kilobytes, which Python runs as it is."""

import base64
import io
import zipfile
from functools import cache
from pathlib import Path

import sandkeeper.runner
from sandkeeper.runner.__main__ import HOME

_FOLDER = "sandkeeper/runner"
_MAIN = "from sandkeeper.runner.__main__ import main\n\nmain()\n"


@cache
def start_command() -> str:
    """Returns the shell command that writes the runner and becomes it; it prints `ready` once it answers.

    It needs `RUNNER_TOKEN` in its environment, and may be run any number of times, also at once.
    """
    path = f"{HOME}/runner.pyz"
    content = base64.encodebytes(_package()).decode()
    return (
        f"mkdir -p {HOME} && chmod 700 {HOME} && base64 -d > {path}.$$ <<'END' && mv {path}.$$ {path} "
        f"&& exec python3 -I -S {path}\n{content}END\n"
    )


def _package() -> bytes:
    """Returns the package as a zip that begins at its `main`."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", _MAIN)
        archive.writestr("sandkeeper/__init__.py", "")
        for module in sorted(Path(sandkeeper.runner.__path__[0]).glob("*.py")):
            archive.writestr(f"{_FOLDER}/{module.name}", module.read_bytes())
    return written.getvalue()
