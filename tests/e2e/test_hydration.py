"""Large files on their way into a sandbox: streamed, whatever their size."""

import hashlib
import random
from pathlib import Path

from tests.e2e.conftest import Chat, Run, texts
from tests.stack import RunningStack

MIB = 1024 * 1024
MOST_ADDED_MIB = 64


def memory_mib(pid: int, what: str) -> float:
    """Returns how much memory a process has (`VmRSS`), or has had at most (`VmHWM`)."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def test_a_file_of_100_mb_adds_little_to_the_services_memory(stack: RunningStack, chat: Chat, run: Run) -> None:
    content = random.Random(7).randbytes(MIB) * 100  # noqa: S311 - any bytes
    api = stack.pids()["api"]
    run("import hashlib")
    chat.upload("large.bin", content, "application/octet-stream")
    before = memory_mib(api, "VmRSS")
    Path(f"/proc/{api}/clear_refs").write_text("5")  # the peak is counted anew

    answer = run("print(hashlib.sha256(open('large.bin', 'rb').read()).hexdigest())")

    assert texts(answer) == [hashlib.sha256(content).hexdigest() + "\n"]
    assert answer["uploadedFiles"] == ["/home/user/large.bin"]
    assert memory_mib(api, "VmHWM") - before <= MOST_ADDED_MIB


def test_a_file_that_replaces_another_is_there_before_the_next_run(chat: Chat, run: Run) -> None:
    chat.upload("data.csv", b"a\n1\n")
    assert texts(run("print(open('data.csv').read())")) == ["a\n1\n\n"]

    replaced = chat.upload("data.csv", b"b\n2\n3\n", replace=True)

    answer = run("print(open('data.csv').read())")
    assert texts(answer) == ["b\n2\n3\n\n"]
    assert answer["uploadedFiles"] == ["/home/user/data.csv"]
    assert answer["artifacts"] == []
    listed = chat.client.get(f"{chat.url}/files").raise_for_status().json()["files"]
    assert [(file["fileId"], file["headers"]) for file in listed] == [(replaced["fileId"], ["b"])]
