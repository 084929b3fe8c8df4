"""The Python client on the real service: the main job, and whatever may break in the middle of it."""

import asyncio
import hashlib
import os
import re
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

from local.project import ROOT, SAMPLE
from sandkeeper_client import (
    AsyncSandkeeper,
    Chat,
    FileFailed,
    InvalidRequest,
    NotFound,
    Output,
    Retries,
    Sandkeeper,
    SessionBusy,
    Unauthenticated,
)
from tests.e2e.conftest import wait_for
from tests.sandbox_server import Server
from tests.stack import RunningStack

COUNT = "import time\nfor n in range({count}):\n    print('line', n)\n    time.sleep({pause})"
PAGE = ROOT / "clients" / "python" / "README.md"
RUN_S = 27
"""Longer than a call is answered with the result."""


@pytest.fixture
def chat(own: Chat) -> Chat:
    """A chat of this test alone."""
    return own


def counting(count: int, pause_s: float) -> str:
    """Returns a program that prints so many lines, with a pause after each."""
    return COUNT.format(count=count, pause=pause_s)


def counted(count: int) -> str:
    """Returns what it prints."""
    return "".join(f"line {n}\n" for n in range(count))


# ── The main job ────────────────────────────────────────────────────────────────────────────────────────


def test_a_chat_from_its_first_file_to_its_notebook(service: Sandkeeper, chat: Chat, tmp_path: Path) -> None:
    assert service.health().status == "ok"
    assert (chat.status().exists, chat.session()) == (False, None)

    file = chat.upload(SAMPLE)
    assert (file.name, file.row_count, len(file.headers or ())) == ("employee_data.csv", 15, 7)
    assert [each.file_id for each in chat.files()] == [file.file_id]

    first = chat.run(
        "import pandas as pd\ndf = pd.read_csv('employee_data.csv')\nprint(df['Salary'].mean().round(2))"
    )
    assert (first.text, first.uploaded_files) == ("83666.67\n", (file.path,))
    again = chat.run("len(df)", include=["outputs", "model"])
    assert (again.text, again.session.status, again.sandbox_id) == ("15", "reused", first.sandbox_id)
    assert again.outputs is not None
    assert again.outputs[0]["output_type"] == "execute_result"
    assert "15" in (again.model or "")

    plot = chat.run("import matplotlib.pyplot as plt\nplt.bar(['a'], [1])\nplt.show()")
    assert [each.type for each in plot.results] == ["image", "chart"]
    assert plot.results[0].data.startswith(b"\x89PNG\r\n\x1a\n")
    assert plot._repr_html_().startswith('<img src="data:image/png;base64,')

    failed = chat.run("df['Bonus']")
    assert (failed.success, failed.error) == (False, "KeyError: 'Bonus'")

    session = chat.session()
    assert session is not None
    assert (session.state, session.run_count) == ("idle", 4)
    assert chat.id in [each.chat_id for each in service.sessions()]
    assert [past.code for past in chat.history()][:2] == ["df['Bonus']", plot_code(chat)]
    nbformat.validate(nbformat.from_dict(chat.notebook()))  # type: ignore[no-untyped-call]
    context = chat.context()
    assert (context.session.has_variables, context.files[0].tables[0].row_count) == (True, 15)

    chat.delete_file(file)
    with pytest.raises(NotFound, match="file-not-found"):
        chat.file(file.file_id)
    chat.close()
    assert chat.session() is None


def plot_code(chat: Chat) -> str:
    """Returns the code of the chat's run that showed an image."""
    return next(past.code for past in chat.history() if "image" in past.results)


def test_what_a_run_wrote_is_had_byte_for_byte_though_its_sandbox_is_gone(chat: Chat, tmp_path: Path) -> None:
    code = "import os\ncontent = os.urandom(3_000_001)\nopen('all.bin', 'wb').write(content)\n"
    run = chat.run(code + "import hashlib\nprint(hashlib.sha256(content).hexdigest())")
    (artifact,) = run.artifacts
    chat.close()

    path = chat.save(artifact, tmp_path)

    assert path == tmp_path / "all.bin"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert run.text.splitlines()[-1] == digest
    assert hashlib.sha256(chat.download(artifact)).hexdigest() == digest
    assert [(each.artifact_id, each.version) for each in chat.artifacts()] == [(artifact.artifact_id, 1)]


def test_a_result_that_is_too_large_for_its_reply_is_had_all_the_same(chat: Chat) -> None:
    run = chat.run("from IPython.display import HTML\nHTML('<p>' + 'x' * 5_000_000)")
    (page,) = run.results
    assert (page.type, page.content, page.size) == ("html", None, 5_000_003)
    assert chat.content(page) == b"<p>" + b"x" * 5_000_000


def test_all_of_it_can_be_awaited(stack: RunningStack, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncSandkeeper(stack.api_url, stack.api_key) as service:
            chats = [service.chat(f"client-{uuid.uuid4()}") for _ in range(2)]
            try:
                runs = await asyncio.gather(*[chat.run(f"x = {n}\nx") for n, chat in enumerate(chats)])
                assert [run.text for run in runs] == ["0", "1"]
                chat = chats[0]
                await chat.upload(b"a,b\n1,2\n", name="small.csv")
                execution = await chat.start("import shutil\nprint(x)\nshutil.copy('small.csv', 'out.csv')")
                heard = [event.text async for event in execution.events() if isinstance(event, Output)]
                assert "".join(heard).startswith("0\n")
                (artifact,) = (await execution.wait()).artifacts
                assert (await chat.save(artifact, tmp_path)).read_bytes() == b"a,b\n1,2\n"
                assert [past.success async for past in chat.history()] == [True, True]
            finally:
                await asyncio.gather(*[chat.close() for chat in chats])

    asyncio.run(main())


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
def test_the_examples_of_its_page_run_as_written(
    stack: RunningStack, service: Sandkeeper, example: str, tmp_path: Path
) -> None:
    """Each prints what it says: the comment behind a `print` is what came of it."""
    environment = {"SANDKEEPER_URL": stack.api_url, "SANDKEEPER_TOKEN": stack.api_key, "PATH": os.environ["PATH"]}
    environment["PYTHONPATH"] = str(PAGE.parent)
    command = [sys.executable, "-W", "error", "-c", example]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    service.chat("first").close()

    assert (done.returncode, done.stderr) == (0, "")
    promised = re.findall(r"print\(.*\)  # (.*)", example)
    assert promised
    assert [line for line in promised if line not in done.stdout.splitlines()] == []


# ── Runs that take their time ───────────────────────────────────────────────────────────────────────────


def test_a_run_that_takes_longer_than_a_call_is_followed_to_its_end(chat: Chat) -> None:
    run = chat.run(counting(RUN_S, 1), timeout=60)
    assert (run.success, run.text) == (True, counted(RUN_S))


def test_output_is_heard_once_and_whole_though_the_service_is_killed_in_between(
    stack: RunningStack, chat: Chat
) -> None:
    heard: list[str] = []

    def hear(output: Output) -> None:
        if not heard:
            stack.restart("api")
        heard.append(output.text)

    run = chat.run(counting(30, 0.1), on_output=hear)

    assert "".join(heard) == run.text == counted(30)


def test_a_call_whose_service_is_killed_under_it_runs_its_code_once(
    stack: RunningStack, chat: Chat, e2b: Server
) -> None:
    sandbox_id = chat.run("count = 0").sandbox_id
    with ThreadPoolExecutor(1) as caller:
        called = caller.submit(
            chat.run, "import time\ncount += 1\nopen('begun', 'w').close()\ntime.sleep(3)\ncount"
        )
        wait_for(e2b, sandbox_id, "begun")
        stack.restart("api")
        assert called.result().text == "1"


def test_a_run_is_followed_from_elsewhere_and_cancelled(stack: RunningStack, chat: Chat) -> None:
    chat.run("kept = 'yes'")
    begun = chat.start(counting(600, 0.1))
    with Sandkeeper(stack.api_url, stack.api_key, retries=Retries(attempts=1)) as other:
        execution = other.chat(chat.id).execution(begun.id)
        assert execution.look().state == "running"
        first = next(event for event in execution.events() if isinstance(event, Output))
        with pytest.raises(SessionBusy):
            other.chat(chat.id).run("1", on_busy="reject")
        run = execution.cancel()

    assert first.text.startswith("line")
    assert run.error_detail is not None
    assert (run.error_detail.kind, run.text.startswith(first.text)) == ("cancelled", True)
    rest = list(begun.events(after=first.id))
    assert (rest[-1].name, first.id in [event.id for event in rest]) == ("end", False)
    assert chat.run("kept").text == "yes"


def test_the_sessions_code_is_interrupted_and_completed_and_its_kernel_restarted(chat: Chat) -> None:
    chat.run("kept = 1")
    assert chat.interrupt() is False
    begun = chat.start(counting(600, 0.1))
    next(event for event in begun.events() if isinstance(event, Output))
    assert chat.interrupt() is True
    assert begun.wait().success is False
    assert chat.run("kept").text == "1"
    assert [match.text for match in chat.complete("kep").matches] == ["kept"]
    assert [match.text for match in chat.complete("kep + other", 3).matches] == ["kept"]
    chat.restart()
    fresh = chat.run("'kept' in dir()")
    assert (fresh.text, fresh.session.state_reset) == ("False", True)


# ── Refused ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_refused_is_told_apart(stack: RunningStack, chat: Chat) -> None:
    with pytest.raises(InvalidRequest) as raised:
        chat.run("1", timeout=0.5)
    assert [field.pointer for field in raised.value.errors] == ["/timeoutMs"]
    assert raised.value.request_id
    with pytest.raises(FileFailed, match=r"fake\.csv"):
        chat.upload(b"\x89PNG\r\n\x1a\n\x00\x00" * 50, name="fake.csv")
    with Sandkeeper(stack.api_url, "sk_of_nobody") as stranger, pytest.raises(Unauthenticated):
        stranger.chat(chat.id).run("1")
