"""The example chat on the real service: its command as `make chat` runs it, and models that say anything."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import nbformat
import pytest
from nbclient import NotebookClient

from examples.chat import conversation, providers
from examples.chat.conversation import Conversation
from examples.chat.models import Call, Dialect, Model, ModelFailed, Turn
from examples.chat.scripted.server import Broken, Refusal, Reply, Scripted, serving
from examples.chat.scripted.wires import Request
from local.project import ROOT, SAMPLE
from sandkeeper_client import Chat, Notebook, Output, Run
from tests.e2e import test_history
from tests.local_command import local_command
from tests.stack import RunningStack

DIALECTS: tuple[Dialect, ...] = ("anthropic", "openai", "bedrock")
KEY = "sk-must-not-be-shown"
COMMAND = "-m examples.chat"
WITHIN_S = 100

kernels = test_history.kernels


@pytest.fixture
def chat(own: Chat) -> Chat:
    """A chat of this test alone."""
    return own


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No model that a test talks with keeps a connection."""
    yield
    while Talk.models:
        Talk.models.pop().close()


class Audience:
    """Remembers what there was to see."""

    def __init__(self) -> None:
        self.text = ""
        self.codes: list[str] = []
        self.output = ""
        self.refusals: list[str] = []
        self.runs: list[Run] = []

    def said(self, text: str) -> None:
        self.text += text

    def began(self, code: str) -> None:
        self.codes.append(code)

    def shown(self, output: Output) -> None:
        self.output += output.text

    def ran(self, run: Run) -> None:
        self.runs.append(run)

    def refused(self, call: Call, reason: str) -> None:
        self.refusals.append(reason)


class Talk:
    """A conversation with a model that a test makes up."""

    models: ClassVar[list[Model]] = []

    def __init__(self, chat: Chat, server: Scripted, dialect: Dialect = "anthropic") -> None:
        self.server, self.audience = server, Audience()
        self.notebook: Notebook = chat.create_notebook("A test")
        model = providers.scripted(dialect, server.url)
        self.models.append(model)
        self.conversation = Conversation(model, chat, self.notebook, self.audience)

    def ask(self, question: str) -> str:
        """Returns the answer."""
        return self.conversation.ask(question)

    def cells(self) -> list[dict[str, Any]]:
        """Returns the notebook's cells, which make a valid notebook."""
        document = self.notebook.ipynb()
        nbformat.validate(nbformat.from_dict(document))  # type: ignore[no-untyped-call]
        cells: list[dict[str, Any]] = document["cells"]
        return cells

    def codes(self) -> list[str]:
        """Returns the code that its cells hold."""
        return ["".join(cell["source"]) for cell in self.cells() if cell["cell_type"] == "code"]


def calling(code: str, number: int = 0) -> Turn:
    """Returns a turn that runs code."""
    return Turn(calls=[Call(f"call_{number}", "run_python", json.dumps({"code": code}))])


def in_turn(*replies: Reply) -> Callable[[Request], Reply]:
    """Returns a model that answers with these, one after another."""
    left = [*replies]
    return lambda _: left.pop(0)


# ── The command ─────────────────────────────────────────────────────────────────────────────────────────


def started(**variables: str) -> subprocess.Popen[str]:
    """Starts what `make chat` runs, where nothing can be typed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SANDKEEPER_"))}
    paths = os.pathsep.join(map(str, (ROOT / "clients" / "python", ROOT)))
    return subprocess.Popen(
        [sys.executable, *COMMAND.split()],
        cwd=ROOT,
        env={**kept, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


def command(**variables: str) -> Done:
    """Runs what `make chat` runs."""
    with started(**variables) as process:
        stdout, stderr = process.communicate(timeout=WITHIN_S)
    return Done(process.returncode, stdout, stderr)


def test_make_chat_runs_this_command() -> None:
    recipe = re.search(r"^chat:.*\n(?:\t.*\n)*\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert recipe[1] == f"@.envs/chat/bin/python {COMMAND}"


@pytest.mark.parametrize("wire", DIALECTS)
def test_a_question_ends_in_the_figure_and_a_notebook(stack: RunningStack, wire: str, tmp_path: Path) -> None:
    path = tmp_path / "made" / "chat.ipynb"

    done = command(
        WIRE=wire,
        NOTEBOOK=str(path),
        SANDKEEPER_URL=stack.api_url,
        SANDKEEPER_TOKEN=stack.api_key,
        OPENAI_API_KEY=KEY,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "> What is the average salary?" in done.stdout
    assert "KeyError: 'salary'" in done.stdout
    assert "The average salary is 83,666.67." in done.stdout.splitlines()
    assert "A script answers, and no model" in done.stdout
    assert str(path) in done.stdout
    assert KEY not in done.stdout
    assert stack.api_key not in done.stdout
    notebook = json.loads(path.read_text())
    nbformat.validate(nbformat.from_dict(notebook))  # type: ignore[no-untyped-call]
    shown = [[each["output_type"] for each in cell["outputs"]] for cell in notebook["cells"] if "outputs" in cell]
    assert shown == [["stream"], ["error"], ["stream"]]
    assert [cell["metadata"].get("tags") for cell in notebook["cells"]] == [
        None,
        None,
        ["raises-exception"],
        None,
        None,
    ]
    assert "83,666.67" in "".join(notebook["cells"][-2]["outputs"][0]["text"])
    assert "".join(notebook["cells"][-1]["source"]) == "The average salary is 83,666.67."


def test_without_a_service_it_starts_one_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "chat.ipynb"
    with local_command() as local:
        done = command(NOTEBOOK=str(path), TMPDIR=str(local.temporary), QUESTION="What is the mean Salary?")

        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert "The average salary is 83,666.67." in done.stdout.splitlines()
        assert path.exists()
        local.assert_nothing_is_left()


def test_its_notebook_runs_again_from_top_to_bottom_also_behind_what_failed(
    chat: Chat, tmp_path: Path, kernels: str
) -> None:
    chat.upload(SAMPLE)
    with serving() as server:
        talk = Talk(chat, server)
        talk.ask("What is the average salary?")
    again: Any = nbformat.from_dict(talk.notebook.ipynb())  # type: ignore[no-untyped-call]
    (tmp_path / SAMPLE.name).write_bytes(SAMPLE.read_bytes())

    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(again, timeout=60, kernel_name=kernels, resources=resources).execute()

    assert again.cells[-2].outputs[0].text == "Average Salary: 83,666.67\n"


def test_a_chat_that_is_interrupted_keeps_its_notebook_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "chat.ipynb"
    with local_command() as local:
        with started(NOTEBOOK=str(path), TMPDIR=str(local.temporary)) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("I look at the file"):
                    process.send_signal(signal.SIGINT)
                    break
            process.communicate(timeout=WITHIN_S)

        assert process.returncode == 130
        assert json.loads(path.read_text())["cells"][0]["source"] == "**What is the average salary?**"
        local.assert_nothing_is_left()


def test_a_key_that_is_missing_is_named_before_anything_is_started() -> None:
    done = command(PROVIDER="openai", MODEL="any", OPENAI_API_KEY="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "OPENAI_API_KEY is not set: PROVIDER=openai needs an API key\n"


def test_a_service_that_refuses_the_token_is_told_in_its_words(stack: RunningStack) -> None:
    done = command(SANDKEEPER_URL=stack.api_url, SANDKEEPER_TOKEN=KEY)
    assert done.returncode == 1
    assert "✘ 401 unauthenticated" in done.stdout
    assert (KEY in done.stdout, done.stderr) == (False, "")


# ── Conversations ───────────────────────────────────────────────────────────────────────────────────────


def test_the_model_is_told_of_the_files_the_tool_and_what_to_do_about_an_error(chat: Chat) -> None:
    chat.upload(SAMPLE)
    heard: list[Request] = []
    replies = in_turn(calling("1 / 0"), calling("print(42)", 1), Turn(text="It is 42."))

    def answer(request: Request) -> Reply:
        heard.append(request)
        return replies(request)

    with serving(answer) as server:
        talk = Talk(chat, server)
        assert talk.ask("What is it?") == "It is 42."

    assert "/home/user/employee_data.csv" in heard[0].system
    assert (heard[0].question, heard[0].tools) == ("What is it?", ["run_python"])
    failed, fine = heard[-1].results
    assert (failed.is_error, "ZeroDivisionError" in failed.text) == (True, True)
    assert (fine.is_error, "42" in fine.text) == (False, True)
    assert "Code of yours has failed" in json.dumps(server.bodies[1])
    assert talk.audience.output == "42\n"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_plot_goes_to_the_model_as_a_picture(chat: Chat, dialect: Dialect) -> None:
    chat.upload(SAMPLE)
    with serving() as server:
        talk = Talk(chat, server, dialect)
        assert talk.ask("Draw a plot of it") == "Here is the plot. I was sent 1 picture(s) of it."
    assert "iVBORw0KGgo" in json.dumps(server.bodies[-1])


def test_what_code_shows_without_end_goes_to_the_model_bounded(chat: Chat) -> None:
    with serving(in_turn(calling("print('x' * 1_000_000)"), Turn(text="Long."))) as server:
        Talk(chat, server).ask("Print a lot")
    assert len(json.dumps(server.bodies[-1])) < 40_000


def test_variables_stay_from_question_to_question(chat: Chat) -> None:
    replies = in_turn(calling("x = 41"), Turn(text="Done."), calling("print(x + 1)", 1), Turn(text="It is 42."))
    with serving(replies) as server:
        talk = Talk(chat, server)
        talk.ask("Remember 41")
        assert talk.ask("And one more?") == "It is 42."
    assert talk.audience.output == "42\n"


def test_whoever_has_seen_enough_stops_the_code_and_keeps_the_session(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enough(_: Audience, output: Output) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Audience, "shown", enough)
    endless = "import time\nkept = 1\nwhile True:\n    print('lap', flush=True)\n    time.sleep(0.1)"
    with serving(in_turn(calling(endless))) as server:
        talk = Talk(chat, server)
        with pytest.raises(KeyboardInterrupt):
            talk.ask("Go on")
    assert talk.conversation.messages == []
    assert chat.run("kept", on_busy="reject").text == "1"


# ── Models that say anything ────────────────────────────────────────────────────────────────────────────

NONSENSE = {
    "an unknown tool": (Call("n", "rm_rf", "{}"), "there is no tool 'rm_rf'"),
    "no JSON": (Call("n", "run_python", '{"code": "1'), "no JSON"),
    "no code": (Call("n", "run_python", "{}"), "required"),
    "too much code": (Call("n", "run_python", json.dumps({"code": "#" * 50_001})), "maxLength 50000"),
    "half a character": (Call("n", "run_python", '{"code": "\\ud800"}'), "no JSON"),
    "a limit that is none": (Call("n", "run_python", '{"code": "1", "timeoutMs": 1}'), "minimum 1000"),
}


@pytest.mark.parametrize(("call", "reason"), NONSENSE.values(), ids=NONSENSE.keys())
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_that_is_nonsense_is_not_run_and_the_model_is_told(
    chat: Chat, dialect: Dialect, call: Call, reason: str
) -> None:
    heard: list[Request] = []
    replies = in_turn(Turn(calls=[call]), Turn(text="I am sorry."))

    def answer(request: Request) -> Reply:
        heard.append(request)
        return replies(request)

    with serving(answer) as server:
        talk = Talk(chat, server, dialect)
        assert talk.ask("Hi") == "I am sorry."

    (result,) = heard[-1].results
    assert reason in result.text
    assert [reason in each for each in talk.audience.refusals] == [True]
    assert talk.codes() == []
    assert chat.session() is None


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Refusal(400, "no such model"), "400: no such model"),
        (Broken(calling("print('never')"), 4), "Anthropic"),
        (Broken(calling("print('never')"), 4, is_ended=True), "broke off"),
        (Turn(), "neither said nor called"),
    ],
    ids=["an error", "a stream that breaks", "a stream that stops", "nothing"],
)
def test_a_model_that_fails_leaves_notebook_and_conversation_as_they_were(
    chat: Chat, reply: Reply, reason: str
) -> None:
    with serving(in_turn(calling("x = 1"), reply, Turn(text="Hello again."))) as server:
        talk = Talk(chat, server)
        with pytest.raises(ModelFailed, match=reason):
            talk.ask("First")
        assert talk.conversation.messages == []
        assert talk.codes() == ["x = 1"]
        assert talk.ask("Second") == "Hello again."


def test_a_model_that_calls_without_end_is_stopped(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MOST_TURNS", 3)
    with serving(lambda _: calling("1")) as server:
        talk = Talk(chat, server)
        with pytest.raises(ModelFailed, match="3 times in a row"):
            talk.ask("Go on")
    assert talk.codes() == ["1"] * 3


@pytest.mark.parametrize("text", ["\x00", "\x1b[2J\x07", "\u202e\ufffe", "**" * 30_000, "</script><b>"])
def test_whatever_a_model_says_the_notebook_is_one(chat: Chat, text: str) -> None:
    with serving(in_turn(calling(f"# {text[:100]}"), Turn(text=f"So: {text}"))) as server:
        talk = Talk(chat, server, "openai")
        assert talk.ask(f"Say {text}") == f"So: {text}"
    assert [cell["cell_type"] for cell in talk.cells()] == ["markdown", "code", "markdown"]


def test_of_many_calls_at_once_the_first_are_made_and_the_others_are_told(chat: Chat) -> None:
    many = [Call(f"c{number}", "run_python", json.dumps({"code": str(number)})) for number in range(10)]
    with serving(in_turn(Turn(calls=many), Turn(text="Enough."))) as server:
        talk = Talk(chat, server)
        assert talk.ask("Go on") == "Enough."
    assert talk.codes() == [str(number) for number in range(8)]
    assert len(talk.audience.refusals) == 2
