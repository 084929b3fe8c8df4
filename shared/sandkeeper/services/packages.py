"""Install packages into a chat's sandbox with pip, as a run of its own kernel, which can then import them."""

import ast
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from packaging.requirements import InvalidRequirement, Requirement

from sandkeeper.errors import FieldProblem, InvalidRequest
from sandkeeper.model import ChatKey, Display, Output, Raised, RunEnd
from sandkeeper.outputs.sound import sound_text
from sandkeeper.services.execute import INLINE_LIMIT, Execute, RunReply, RunRequest

REPORT = "application/vnd.sandkeeper.packages+json"
"""The form in which the program below displays what it has done: no output of other code looks like it."""

PIP_TEXT_CHARS = 4_000
"""How much of the end of pip's error text is passed on."""

_PROGRAM = """
import importlib, importlib.metadata, json, pathlib, subprocess, sys, tempfile
from IPython.display import display

with tempfile.TemporaryDirectory() as folder:
    written = pathlib.Path(folder, "report.json")
    options = ["--quiet", "--no-input", "--no-color", "--progress-bar=off", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--report", written, "--", *requirements],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
    )
    report = json.loads(written.read_text()) if done.returncode == 0 and written.exists() else {"install": []}
importlib.invalidate_caches()
found = {package["metadata"]["name"]: package["metadata"]["version"] for package in report["install"]}
for name in names if done.returncode == 0 else []:
    try:
        distribution = importlib.metadata.distribution(name)
        found[distribution.metadata["Name"]] = distribution.version
    except importlib.metadata.PackageNotFoundError:
        pass
display({mime: {"installed": found, "code": done.returncode, "text": done.stderr[-chars:]}}, raw=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReply:
    """What pip did. `installed` holds name → version of the packages asked for, and of what they brought along."""

    installed: Mapping[str, str]
    error: str | None
    """pip's own words, or why it could not do its work; None when all is installed."""
    run: RunReply


@dataclass(frozen=True, slots=True)
class Packages:
    """Installs packages through the execute service: claimed, timed out and given back like any other run."""

    execute: Execute

    def install(self, key: ChatKey, requirements: Sequence[str]) -> InstallReply:
        """Returns what pip installed, or its error text.

        Raises `InvalidRequest` for what is no PEP 508 requirement, or names an address to install from.
        """
        parsed = _parsed(requirements)
        values = {
            "requirements": [str(requirement) for requirement in parsed],
            "names": [requirement.name for requirement in parsed],
            "mime": REPORT,
            "chars": PIP_TEXT_CHARS,
        }
        code = f"exec({_PROGRAM!r}, __import__('json').loads({json.dumps(values)!r}))"
        run = self.execute(
            RunRequest(key=key, code=code, file_ids=[], limit=INLINE_LIMIT, on_busy="wait", mode="inline")
        )
        report = _told(event.what for event in run.execution.events)
        return InstallReply(installed=report.get("installed", {}), error=_error(run, report), run=run)


def shown_code(code: str) -> str:
    """Returns code as it is shown to people: what installs packages as a notebook would write it, else as it is.

    `%pip` and its kind are of IPython, and so is a sandbox's kernel.
    """
    requirements = _installs(code)
    return code if requirements is None else f"%pip install {shlex.join(requirements)}"


def install_report(code: str, outputs: Sequence[Output]) -> str | None:
    """Returns what an installation has said, in words; None for outputs of other code."""
    if _installs(code) is None:
        return None
    match _told(outputs):
        case {"code": 0, "installed": dict(installed)}:
            lines = [f"{name} {version}\n" for name, version in sorted(installed.items(), key=str)]
            return sound_text("".join(lines))
        case {"text": str(text)} if text:
            return sound_text(text)
    return "pip did not finish\n"


def _installs(code: str) -> list[str] | None:
    """Returns the requirements that the code asks pip for, None for code that `Packages` has not made."""
    if REPORT not in code:
        return None
    try:
        match ast.parse(code).body:
            case [
                ast.Expr(
                    ast.Call(ast.Name("exec"), [ast.Constant(str()), ast.Call(args=[ast.Constant(str(values))])])
                )
            ]:
                given = json.loads(values)
            case _:
                return None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    match given:
        case {"mime": str(mime), "requirements": list(requirements)} if mime == REPORT:
            return [str(requirement) for requirement in requirements]
    return None


def _parsed(requirements: Sequence[str]) -> list[Requirement]:
    parsed: list[Requirement] = []
    problems: list[FieldProblem] = []
    for index, text in enumerate(requirements):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            detail = f"{text!r} is no requirement; write a name and maybe versions, such as 'requests>=2.31'"
            problems.append(FieldProblem(f"/packages/{index}", detail))
            continue
        if requirement.url:
            detail = f"{text!r} names an address; only packages of the index can be installed, by name"
            problems.append(FieldProblem(f"/packages/{index}", detail))
        parsed.append(requirement)
    if problems:
        raise InvalidRequest(f"nothing was installed: {problems[0].detail}", problems)
    return parsed


def _told(outputs: Iterable[object]) -> dict[str, Any]:
    """Returns what the program above has displayed."""
    for output in outputs:
        if isinstance(output, Display) and isinstance(report := output.data.get(REPORT), dict):
            return report
    return {}


def _error(run: RunReply, report: Mapping[str, Any]) -> str | None:
    if report:
        return None if report.get("code") == 0 else str(report.get("text") or "pip failed and said nothing")
    return _why_unreported(run)


def _why_unreported(run: RunReply) -> str:
    end = run.execution.end
    match end:
        case None:
            why = "pip is still at work; ask again in a moment"
        case RunEnd.TIMEOUT:
            limit_s = run.execution.context.limit.total_seconds()
            why = f"pip was not done after {limit_s:.0f} s and was stopped; ask for fewer at once"
        case RunEnd.SANDBOX_LOST:
            why = "the sandbox was lost while pip was at work; ask again"
        case RunEnd.KERNEL_DIED | RunEnd.OUT_OF_MEMORY:
            why = "the kernel ended while pip was at work; ask again"
        case RunEnd.CANCELLED | RunEnd.OUTPUT_LIMIT:
            why = "pip was stopped; ask again"
        case RunEnd.FINISHED:
            raised = next((each for each in run.execution.outcome.outputs if isinstance(each, Raised)), None)
            why = f"{raised.name}: {raised.value}" if raised else "pip's report is missing; restart the session"
        case _:
            assert_never(end)
    return why
