"""Prompts, filled from what is known of a chat. Asking for one never makes or wakes a sandbox."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from sandkeeper.errors import ExecutionNotFound, FieldProblem, FileNotFound, InvalidRequest
from sandkeeper.model import ChatKey, Raised, RunEnd
from sandkeeper.notebooks import Cell, Notebook
from sandkeeper.outputs import Failure, model_view
from sandkeeper.prompts import MAX_ARGUMENT_CHARS, PROMPTS, Filled, Prompt, PromptName, asked, filled, quoted
from sandkeeper.runs import Execution
from sandkeeper.services.briefing import briefing, files_told, state_told
from sandkeeper.services.context import Context
from sandkeeper.services.history import History
from sandkeeper.services.notebooks import Notebooks
from sandkeeper.summary import RunSummary

SANDBOX_CHARS = 4_000
FILES_CHARS = 6_000
CODE_CHARS = 6_000
OUTPUT_CHARS = 4_000
NOTEBOOK_CHARS = 6_000
CELL_CHARS = 400
RUNS_CHARS = 4_000
RUN_CHARS = 300

RECENT_RUNS = 20
"""How many of the latest runs are looked at."""

_ENDS: Mapping[RunEnd, str] = {
    RunEnd.TIMEOUT: "it ran longer than its limit and was interrupted",
    RunEnd.CANCELLED: "somebody stopped it",
    RunEnd.OUTPUT_LIMIT: "it put out more than is kept of a run and was interrupted",
    RunEnd.OUT_OF_MEMORY: "it needed more memory than there is; variables are gone",
    RunEnd.KERNEL_DIED: "the Python process ended; variables are gone",
    RunEnd.SANDBOX_LOST: "the sandbox was lost; how far the code came is unknown",
}


@dataclass(frozen=True, slots=True)
class Prompts:
    """Fills prompts."""

    context: Context
    history: History
    notebooks: Notebooks

    def fill(self, key: ChatKey, name: PromptName, arguments: Mapping[str, str]) -> Filled:
        """Returns the prompt with the chat's context in it; a chat that nobody has heard of has one too.

        Raises `InvalidRequest` for arguments that it does not have, and what it says of ids that are unknown.
        """
        prompt = PROMPTS[name]
        _require_known(prompt, arguments)
        match name:
            case "data-analysis":
                return filled(prompt, sandbox=self._sandbox(key), request=asked(arguments.get("request")))
            case "file-context":
                return filled(prompt, files=self._files(key, arguments.get("file")))
            case "notebook-update":
                return filled(
                    prompt,
                    notebook=self._notebook(key, arguments.get("notebookId")),
                    runs=self._runs(key),
                    request=asked(arguments.get("request")),
                )
            case "error-recovery":
                state = quoted("the session", state_told(self.context.of(key).outlook), SANDBOX_CHARS)
                return filled(prompt, state=state, failure=self._failure(key, arguments.get("executionId")))
            case _:
                assert_never(name)

    def _sandbox(self, key: ChatKey) -> str:
        return quoted("the sandbox", briefing(self.context.of(key), SANDBOX_CHARS), SANDBOX_CHARS)

    def _files(self, key: ChatKey, wanted: str | None) -> str:
        files = self.context.catalog.of_chat(key)
        if wanted is not None:
            files = [file for file in files if wanted in (file.name, file.path, file.file_id)]
            if not files:
                raise FileNotFound(f"chat {key.chat_id!r} has no file {wanted[:200]!r}; list its files")
        return quoted("the files", files_told(files, FILES_CHARS), FILES_CHARS)

    # ── Notebooks ───────────────────────────────────────────────────────────────────────────────────

    def _notebook(self, key: ChatKey, notebook_id: str | None) -> str:
        if notebook_id is None:
            latest, _ = self.notebooks.page(key, limit=1)
            if not latest:
                return "The chat has no notebook yet: create one."
            notebook_id = latest[0].notebook_id
        notebook, cells = self.notebooks.read(key, notebook_id)
        return quoted("the notebook", _outline(notebook, cells), NOTEBOOK_CHARS)

    def _runs(self, key: ChatKey) -> str:
        runs = [*reversed(self.history.page(key, limit=RECENT_RUNS).runs)]
        if not runs:
            return "No code has run in this chat yet."
        return quoted("the latest runs, oldest first", "\n".join(map(_run, runs)), RUNS_CHARS)

    # ── Failures ────────────────────────────────────────────────────────────────────────────────────

    def _failure(self, key: ChatKey, execution_id: str | None) -> str:
        if execution_id is None:
            latest = self.history.page(key, limit=RECENT_RUNS).runs
            execution_id = next((each.run.execution_id for each in latest if _has_failed(each.run)), None)
            if execution_id is None:
                return f"None of the chat's latest {RECENT_RUNS} runs has failed: ask what is wrong."
        execution = self.history.runs.get(key, execution_id)
        if execution is None:
            raise ExecutionNotFound(f"chat {key.chat_id!r} has no execution {execution_id[:200]!r}")
        code = quoted(f"the code of run {execution.execution_id}", execution.code, CODE_CHARS)
        return f"{code}\n\n{quoted('what came of it', _came_of(execution), OUTPUT_CHARS)}"


def _require_known(prompt: Prompt, arguments: Mapping[str, str]) -> None:
    known = [argument.name for argument in prompt.arguments]
    problems = [
        FieldProblem(f"query/{name}", f"is not an argument of {prompt.name!r}; it has {', '.join(known)}")
        for name in arguments
        if name not in known
    ]
    problems += [
        FieldProblem(f"query/{name}", f"has {len(value):,} characters; the limit is {MAX_ARGUMENT_CHARS:,}")
        for name, value in arguments.items()
        if len(value) > MAX_ARGUMENT_CHARS
    ]
    if problems:
        raise InvalidRequest(f"{problems[0].pointer[:100]}: {problems[0].detail}", problems)


def _outline(notebook: Notebook, cells: Sequence[Cell]) -> str:
    about = f"notebook {notebook.notebook_id}, version {notebook.edited}, {notebook.title!r}, {len(cells)} cells"
    return "\n\n".join([about, *(_cell(number, cell) for number, cell in enumerate(cells, 1))])


def _cell(number: int, cell: Cell) -> str:
    slot = cell.slot
    came_of = ""
    if slot.run is not None:
        came_of = {None: ", running", True: ", ran", False: ", failed"}[slot.run.succeeded]
    about = f"[{number}] {slot.kind} {slot.cell_id}, version {slot.version}{came_of}"
    return f"{about}\n{_cut(cell.source.text, CELL_CHARS)}"


def _run(summary: RunSummary) -> str:
    run = summary.run
    came_of = "running" if run.end is None else "failed" if _has_failed(run) else "succeeded"
    return f"[{run.execution_id}, {came_of}]\n{_cut(run.code, RUN_CHARS)}"


def _cut(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"


def _has_failed(run: Execution) -> bool:
    """Returns whether a run, in brief or whole, has ended without success."""
    if run.end is None or run.end is RunEnd.CANCELLED:
        return False
    return run.end is not RunEnd.FINISHED or any(isinstance(event.what, Raised) for event in run.events)


def _came_of(execution: Execution) -> str:
    if execution.end is None:
        return "It is still running."
    failure = None
    if execution.end is not RunEnd.FINISHED:
        failure = Failure(kind=execution.end.value, name="Ended early", value=_ENDS[execution.end], hint="")
    return model_view(
        execution.outcome.outputs, failure=failure, reset_reason=execution.reset_reason, max_chars=OUTPUT_CHARS
    )
