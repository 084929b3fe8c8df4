"""The API function under SnapStart: one process is started, and each environment goes on from a copy of it.

A fork is such a copy, all of its memory included; what Python itself does anew after a fork is undone here.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from local.project import ROOT
from tests.stack import RunningStack

SCRIPT = """
import json, os, random, socket, sys, threading
from snapshot_restore_py import get_before_snapshot
from local.functions import Context, load

event = json.load(open("events/execute.json"))
function = load("api")
for hook, args, kwargs in get_before_snapshot():
    hook(*args, **kwargs)

def is_network(fd):
    try:
        with socket.socket(fileno=os.dup(fd)) as found:
            return found.family != socket.AF_UNIX  # the event loop wakes itself by a pair of those
    except OSError:
        return False

snapshot = {
    "sockets": sum(is_network(int(fd)) for fd in os.listdir("/proc/self/fd")),
    "threads": threading.active_count(),
    "made": sorted(vars(function.app.state.wiring)),
}
state, loaded = random.getstate(), set(sys.modules)
restored = []
for number in range(2):
    reader, writer = os.pipe()
    if os.fork() == 0:
        random.setstate(state)
        event["body"] = json.dumps({"chatId": f"restored-{number}", "code": "print(6 * 7)"})
        reply = function.handler(event, Context("api"))
        told = {
            "status": reply["statusCode"],
            "body": json.loads(reply["body"]),
            "imported": sorted(set(sys.modules) - loaded),
        }
        with os.fdopen(writer, "w") as pipe:
            json.dump(told, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        restored.append(json.load(pipe))
    os.wait()
print(json.dumps({"snapshot": snapshot, "restored": restored}))
"""


@pytest.fixture(scope="module")
def told(stack: RunningStack) -> dict[str, Any]:
    """What the process tells of itself before the snapshot, and both of its copies of their first calls."""
    paths = os.pathsep.join((str(ROOT / "shared"), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**stack.environment, "PATH": os.environ["PATH"], "PYTHONPATH": paths},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_nothing_is_made_or_connected_before_the_snapshot(told: dict[str, Any]) -> None:
    assert told["snapshot"] == {"sockets": 0, "threads": 1, "made": []}


def test_copies_of_a_snapshot_serve_calls_and_draw_nothing_twice(told: dict[str, Any]) -> None:
    one, other = told["restored"]
    assert (one["status"], other["status"]) == (200, 200), told
    assert one["body"]["results"] == other["body"]["results"]
    for drawn in ("sandboxId", "executionId"):
        assert one["body"][drawn] != other["body"][drawn]


def test_a_restored_copy_imports_nothing_of_weight_at_its_first_call(told: dict[str, Any]) -> None:
    """What is left is what clients of AWS import for their service, and codecs."""
    heavy = {"sandkeeper", "e2b", "boto3", "s3transfer", "httpx", "pyqwest", "protobuf", "connectrpc", "pydantic"}
    for copy in told["restored"]:
        assert [name for name in copy["imported"] if name.partition(".")[0] in heavy] == []
