"""A question, code that the model writes, what comes of it, and the answer.

Code runs as cells of a notebook. What of a run goes back to the model is the service's own view of it for models,
bounded, with the pictures that it has shown. Code that fails goes back too, with the service's advice on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

import sandkeeper_client as client
from examples.chat import tools
from examples.chat.models import (
    Answered,
    Asked,
    BadCall,
    Call,
    Image,
    Message,
    Model,
    ModelFailed,
    PictureType,
    ToolResult,
    Turn,
    sound_text,
)

MOST_TURNS = 12
"""So often the model may call tools for one question."""
MOST_CALLS = 8
"""So many of them in one turn."""
MOST_IMAGES = 4
MOST_IMAGE_BYTES = 3_500_000
MOST_CELL_CHARS = 50_000
MAY_RAISE = {"tags": ["raises-exception"]}
"""How a notebook says that whoever runs all its cells is to go on behind this one."""
PICTURES: tuple[PictureType, ...] = get_args(PictureType)


class Watcher(Protocol):
    """Whoever looks on."""

    def said(self, text: str) -> None:
        """Hears a piece of what the model says."""

    def began(self, code: str) -> None:
        """Sees the code that runs now."""

    def shown(self, output: client.Output) -> None:
        """Sees what the code shows, as it does."""

    def ran(self, run: client.Run) -> None:
        """Sees what came of it."""

    def refused(self, call: Call, reason: str) -> None:
        """Hears that a call was not made."""


@dataclass
class Conversation:
    """A chat with a model, in a chat of the service."""

    model: Model
    chat: client.Chat
    notebook: client.Notebook
    watcher: Watcher
    messages: list[Message] = field(default_factory=list)

    def ask(self, question: str) -> str:
        """Returns the model's answer.

        Raises `ModelFailed` if there is none. Then the conversation is as it was before the question, so that
        another one can be asked; the notebook keeps what has run.
        """
        before = len(self.messages)
        try:
            return self._answer(sound_text(question))
        except BaseException:
            del self.messages[before:]
            raise

    def _answer(self, question: str) -> str:
        offered = self.chat.context().tools[self.model.dialect]
        known = tools.schemas(offered, self.model.dialect)
        system = self.chat.prompt("data-analysis")
        self._note(f"**{question}**")
        self.messages.append(Asked(question))
        for _ in range(MOST_TURNS):
            turn = self.model.reply(system, self.messages, offered, self.watcher.said)
            self.messages.append(turn)
            if not turn.calls:
                return self._concluded(turn)
            self.messages.append(self._answered(turn.calls, known))
        raise ModelFailed(f"the model has called tools {MOST_TURNS} times in a row, and not answered")

    def _concluded(self, turn: Turn) -> str:
        if not turn.text.strip():
            raise ModelFailed("the model has neither said nor called anything")
        self._note(turn.text)
        return turn.text

    def _note(self, text: str) -> None:
        """Puts text into the notebook."""
        self.notebook.add(text[:MOST_CELL_CHARS], kind="markdown")

    # ── Calls ───────────────────────────────────────────────────────────────────────────────────────

    def _answered(self, calls: Sequence[Call], known: Mapping[str, Mapping[str, Any]]) -> Answered:
        """Returns what came of the calls, with advice on the last one whose code failed."""
        results, failed = [], ""
        for number, call in enumerate(calls):
            try:
                if number >= MOST_CALLS:
                    raise BadCall(f"more than {MOST_CALLS} calls at once; make this one again by itself")
                run = self._ran(tools.inputs(call, known))
            except BadCall as error:
                self.watcher.refused(call, str(error))
                results.append(ToolResult(call, f"Not run: {error}", is_error=True))
                continue
            failed = "" if run.success else run.execution_id
            text = run.model or run.error or run.text
            results.append(ToolResult(call, text, not run.success, [*self._pictures(run)]))
        advice = self.chat.prompt("error-recovery", executionId=failed) if failed else ""
        return Answered(results, advice)

    def _ran(self, told: Mapping[str, Any]) -> client.Run:
        """Returns what came of a new cell with this code. Raises `BadCall` for code that the service refuses."""
        code, limit_ms = told["code"], told.get("timeoutMs")
        try:
            cell = self.notebook.add(code)
        except (client.InvalidRequest, client.PayloadTooLarge) as error:
            raise BadCall(error.detail) from None
        self.watcher.began(code)
        timeout = None if limit_ms is None else limit_ms / 1000
        execution = self.notebook.run(cell, timeout=timeout, include=["model"])
        try:
            for event in execution.events():
                if isinstance(event, client.Output):
                    self.watcher.shown(event)
            run = execution.wait()
        except KeyboardInterrupt:
            execution.cancel()
            raise
        self.watcher.ran(run)
        if not run.success:
            self.notebook.replace(cell, code, metadata=MAY_RAISE)
        return run

    def _pictures(self, run: client.Run) -> Iterator[Image]:
        """Yields the pictures of a run that a model is sent: the first of them, and none that is too large."""
        shown = [(kind, each) for each in run.results for kind in PICTURES if each.mime_type == kind]
        for kind, each in shown[:MOST_IMAGES]:
            if (each.size or 0) <= MOST_IMAGE_BYTES and len(data := self.chat.content(each)) <= MOST_IMAGE_BYTES:
                yield Image(kind, data)
