"""Installing packages: what is refused before anything is done, and what is told of what pip did."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sandkeeper.errors import InvalidRequest, SandboxUnavailable
from sandkeeper.model import Display, Output, Raised, RunEnd, RunOutcome, SandboxRef, Stream
from sandkeeper.services.packages import PIP_TEXT_CHARS, REPORT, InstallReply, shown_code
from tests.world import CHAT, World, told


def install(world: World, *requirements: str) -> InstallReply:
    """Installs packages as a request would."""
    return world.wiring.packages.install(CHAT, requirements)


# ── What is refused ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "requirement",
    [
        "",
        "  ",
        "-r requirements.txt",
        "--index-url=https://index.invalid/simple requests",
        "requests --pre",
        "requests\n--pre",
        "requests\x00",
        "git+https://code.invalid/requests.git",
        "https://files.invalid/requests.whl",
        "./requests",
        "/etc/passwd",
        "${HOME}",
        "requests; import os",
        "requests==",
        "requests[",
        "žluťoučký",
        "ｒequests",
        "requests\ud800",
    ],
    ids=ascii,
)
def test_what_is_no_requirement_is_refused_and_nothing_is_done(world: World, requirement: str) -> None:
    with pytest.raises(InvalidRequest, match="is no requirement; write a name") as refused:
        install(world, requirement)

    assert [problem.pointer for problem in refused.value.problems] == ["/packages/0"]
    assert world.calls() == []


@pytest.mark.parametrize(
    "requirement",
    [
        "requests @ https://files.invalid/requests.whl",
        "requests @ git+https://code.invalid/requests.git",
        "requests @ file:///etc/passwd",
        "requests@x",
    ],
)
def test_an_address_is_refused_and_nothing_is_done(world: World, requirement: str) -> None:
    with pytest.raises(InvalidRequest, match="names an address; only packages of the index"):
        install(world, requirement)

    assert world.calls() == []


def test_all_that_is_wrong_is_told_at_once(world: World) -> None:
    with pytest.raises(InvalidRequest, match=r"nothing was installed: '-e \.' is no requirement") as refused:
        install(world, "requests", "-e .", "pandas>=2", "a @ https://files.invalid/a.whl")

    assert [problem.pointer for problem in refused.value.problems] == ["/packages/1", "/packages/3"]


# ── What pip did ────────────────────────────────────────────────────────────────────────────────────

Pip = Callable[[Sequence[Any]], tuple[int, str]]


def reporting(**installed: str) -> Pip:
    """Returns a pip that installs these: name → version."""
    packages = [{"metadata": {"name": name, "version": number}} for name, number in installed.items()]

    def run(command: Sequence[Any]) -> tuple[int, str]:
        Path(command[command.index("--report") + 1]).write_text(json.dumps({"install": packages}))
        return 0, ""

    return run


class Kernel:
    """Runs what it is given in this process: only pip and the display are not the real ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pip: Pip = reporting()
        self.commands: list[list[str]] = []
        self.namespace: dict[str, Any] = {}
        self.shown: list[Output] = []
        display = ModuleType("IPython.display")
        display.display = lambda data, raw: self.shown.append(Display(data))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
        monkeypatch.setitem(sys.modules, "IPython.display", display)
        monkeypatch.setattr(subprocess, "run", self._pip)

    def _pip(self, command: Sequence[Any], *, stdin: int, **_: Any) -> SimpleNamespace:
        assert stdin == subprocess.DEVNULL, "nobody is there to answer pip's questions"
        self.commands.append([str(argument) for argument in command])
        returncode, stderr = self.pip(command)
        return SimpleNamespace(returncode=returncode, stderr=stderr)

    def __call__(self, _: SandboxRef, code: str) -> RunOutcome:
        """Stands for the sandbox's kernel."""
        exec(code, self.namespace)  # noqa: S102 - it is our own code
        return RunOutcome([*self.shown], RunEnd.FINISHED)


@pytest.fixture
def kernel(world: World, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Returns the kernel that the world's code runs in."""
    world.sandboxes.program = Kernel(monkeypatch)
    return world.sandboxes.program


def test_what_was_installed_and_what_was_there_already_are_told(world: World, kernel: Kernel) -> None:
    kernel.pip = reporting(Added="1.2", dependency="0.1")

    reply = install(world, "added>=1", "PyTest")

    assert reply.error is None
    assert reply.installed == {"Added": "1.2", "dependency": "0.1", "pytest": version("pytest")}
    assert told(reply.run) == ("new", 1, None)


def test_pip_is_asked_for_the_requirements_and_can_take_none_for_an_option(world: World, kernel: Kernel) -> None:
    install(world, " pandas[excel,parquet] >=2, <3", "tomli ; python_version < '3.11'")

    (command,) = kernel.commands
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert command[command.index("--") + 1 :] == [
        "pandas[excel,parquet]<3,>=2",
        'tomli; python_version < "3.11"',
    ]


@pytest.mark.parametrize(
    ("said", "told_text"),
    [
        ("ERROR: No matching distribution", "ERROR: No matching distribution"),
        ("x" * 10_000 + "the end", "x" * (PIP_TEXT_CHARS - 7) + "the end"),
        ("", "pip failed and said nothing"),
    ],
    ids=["some", "much", "nothing"],
)
def test_a_failure_is_told_in_pips_own_words(world: World, kernel: Kernel, said: str, told_text: str) -> None:
    kernel.pip = lambda _: (1, said)

    reply = install(world, "pytest", "nope")

    assert (reply.error, reply.installed) == (told_text, {})


def test_nothing_of_it_stays_in_the_users_namespace(world: World, kernel: Kernel) -> None:
    kernel.namespace = {"json": "mine", "found": "mine"}

    install(world, "pytest")

    kernel.namespace.pop("__builtins__")
    assert kernel.namespace == {"json": "mine", "found": "mine"}


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (RunOutcome([], RunEnd.TIMEOUT), r"not done after 25 s .* fewer at once"),
        (RunOutcome([], RunEnd.SANDBOX_LOST), r"sandbox was lost .* ask again"),
        (RunOutcome([], RunEnd.KERNEL_DIED), r"kernel ended .* ask again"),
        (RunOutcome([], RunEnd.OUT_OF_MEMORY), r"kernel ended .* ask again"),
        (RunOutcome([], RunEnd.CANCELLED), r"stopped; ask again"),
        (RunOutcome([], RunEnd.OUTPUT_LIMIT), r"stopped; ask again"),
        (None, r"still at work; ask again"),
        (RunOutcome([Stream("stdout", "?")], RunEnd.FINISHED), r"report is missing; restart the session"),
        (RunOutcome([Display({"text/plain": "{}"})], RunEnd.FINISHED), r"report is missing; restart the session"),
        (RunOutcome([Raised("KeyboardInterrupt", "", "…")], RunEnd.FINISHED), r"^KeyboardInterrupt: $"),
    ],
    ids=[
        "timeout",
        "lost",
        "died",
        "out of memory",
        "cancelled",
        "too much",
        "goes on",
        "silence",
        "another display",
        "interrupted",
    ],
)
def test_where_pip_could_not_tell_the_reply_says_why(world: World, outcome: RunOutcome | None, error: str) -> None:
    world.sandboxes.program = lambda _, __: outcome

    reply = install(world, "requests")

    assert re.search(error, reply.error or "")
    assert reply.installed == {}


def test_a_sandbox_that_cannot_be_reached_is_no_result(world: World) -> None:
    world.taps["sandboxes"].fail("run", SandboxUnavailable("down"))

    with pytest.raises(SandboxUnavailable):
        install(world, "requests")

    world.assert_free()


def test_files_are_left_to_the_next_run(world: World, kernel: Kernel) -> None:
    file = world.add_file("a.csv", b"a")

    assert install(world, "pytest").run.execution.context.paths == []

    world.sandboxes.program = lambda _, __: RunOutcome([], RunEnd.FINISHED)
    assert world.run().execution.context.paths == [file.path]


# ── How it is shown ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "code",
    [
        "print(1)",
        f"x = {REPORT!r}",
        f"exec('x', {REPORT!r})",
        f"exec('x', f('{REPORT}'))",
        f'exec("x", f(\'{{"mime": "{REPORT}", "requirements": 1}}\'))',
        f"({REPORT!r}",
        f"%time {REPORT}",
        "(" * 20_000 + REPORT,
    ],
    ids=lambda code: code[:40],
)
def test_code_that_only_looks_like_an_installation_stays_as_it_is(code: str) -> None:
    assert shown_code(code) == code
