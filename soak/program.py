"""The code that a run executes, and what its output says."""

import json
from collections.abc import Mapping
from typing import Any

from sandkeeper.model import HOME
from soak.truth import Snapshot

MARK = "SOAK "

_PROGRAM = """
import glob as _glob, hashlib as _hashlib, json as _json, time as _time
soak_ids = globals().get("soak_ids", [])
soak_ids.append({run_id!r})
with open("{home}/soak.txt", "a+") as _file:
    _file.write({run_id!r} + "\\n")
    _file.seek(0)
    _lines = _file.read().split()
_files = {{}}
for _path in _glob.glob("{home}/up-*"):
    with open(_path, "rb") as _file:
        _files[_path] = _hashlib.sha256(_file.read()).hexdigest()
print({mark!r} + _json.dumps([soak_ids, _lines, _files]), flush=True)
_time.sleep({nap_s})
"""


def program(run_id: str, nap_s: float = 0, home: str = HOME) -> str:
    """Returns code that adds `run_id` to its state, shows all of it, and then sleeps."""
    return _PROGRAM.format(run_id=run_id, mark=MARK, nap_s=nap_s, home=home)


def snapshot_of(results: list[Mapping[str, Any]]) -> Snapshot | None:
    """Returns what the code has shown; None if it did not come so far, or the line was cut."""
    text = "".join(item["content"] for item in results if item["type"] == "text")
    begin = text.find(MARK)
    end = text.find("\n", max(begin, 0))
    if begin < 0 or end < 0:
        return None
    variable, lines, files = json.loads(text[begin + len(MARK) : end])
    return Snapshot(variable=tuple(variable), lines=tuple(lines), files=files)
