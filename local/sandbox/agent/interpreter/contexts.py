"""Contexts: kernels by name, each with a language, a working directory and one run at a time."""

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import zmq.asyncio

from ..environment import Environment
from .kernel import Kernel, KernelStartError, Variables
from .run import Emit

DEFAULT_LANGUAGE: Final = "python"

_LANGUAGES = {"python": "python", "python3": "python", "py": "python", "bash": "bash", "sh": "bash"}

_REMOVED: Final = "the context was removed"


class UnknownLanguageError(ValueError):
    """No kernel speaks this language."""


class NoSuchContextError(LookupError):
    """No context has this id."""


class BadDirectoryError(ValueError):
    """A context cannot work in a directory that is not there."""


def language_named(name: str | None) -> str:
    """The language that a request means; UnknownLanguageError if no kernel speaks it."""
    wanted = (name or DEFAULT_LANGUAGE).strip().lower()
    if wanted not in _LANGUAGES:
        raise UnknownLanguageError(f"language {name!r} is not available here; use 'python' or 'bash'")
    return _LANGUAGES[wanted]


class Context:
    """A kernel that is started again whenever it dies."""

    def __init__(
        self,
        channels: zmq.asyncio.Context,
        environment: Environment,
        language: str,
        cwd: str,
        preload: tuple[str, ...] = (),
    ) -> None:
        self.id = str(uuid.uuid4())
        self.language = language
        self.cwd = cwd
        self._channels = channels
        self._environment = environment
        self._preload = preload
        self._one_at_a_time = asyncio.Lock()
        self._kernel: asyncio.Task[Kernel] | None = None
        self._kept: dict[str, str] = {}
        self._removed = False

    async def execute(self, code: str, variables: Mapping[str, str], emit: Emit) -> None:
        """Runs `code` when its turn comes; cancelling takes it out of the queue or interrupts it."""
        async with self._one_at_a_time:
            kernel = await self.kernel()
            run = kernel.submit(code, Variables(self._kept, variables), emit)
            self._kept = {}
            try:
                await asyncio.shield(run.finished)
            except asyncio.CancelledError:
                # The next run's turn comes only when this one has really ended.
                await kernel.interrupt(run)
                raise

    def keep(self, variables: Mapping[str, str]) -> None:
        """From the next run on, the kernel's environment has these variables."""
        self._kept.update(variables)

    async def kernel(self) -> Kernel:
        """The kernel, started if there is none; KernelStartError once the context was removed."""
        if self._removed:
            raise KernelStartError(_REMOVED)
        if self._kernel is None or (self._kernel.done() and not self._running()):
            self._kernel = asyncio.create_task(self._start())
        return await asyncio.shield(self._kernel)

    async def restart(self) -> None:
        """A fresh kernel is ready; a run under way ended with an error that says so."""
        await self._close("the context was restarted, and its variables are lost")
        await self.kernel()

    async def remove(self) -> None:
        """The kernel is gone for good; runs under way and in the queue end with an error that says so."""
        self._removed = True
        await self._close(_REMOVED)

    async def _close(self, reason: str) -> None:
        """The kernel is gone; a run under way ended with an error of this reason."""
        starting, self._kernel = self._kernel, None
        if starting is None:
            return
        with contextlib.suppress(Exception):
            kernel = await starting
            kernel.abandon_runs("ContextRestarting", reason)
            await kernel.close()

    async def _start(self) -> Kernel:
        kernel = await Kernel.start(
            self._channels, self.language, self._working_directory(), self._environment.variables(), self._preload
        )
        kernel.exited.add_done_callback(lambda _: self._mourn(kernel))
        return kernel

    def _mourn(self, dead: Kernel) -> None:
        """Starts the next kernel at once, if this one was not ended by us."""
        if self._kernel and self._kernel.done() and self._running() is None:
            self._kernel = asyncio.create_task(self._replace(dead))

    async def _replace(self, dead: Kernel) -> Kernel:
        await dead.close()
        return await self._start()

    def _running(self) -> Kernel | None:
        task = self._kernel
        if task is None or not task.done() or task.cancelled() or task.exception():
            return None
        kernel = task.result()
        return None if kernel.exited.done() else kernel

    def _working_directory(self) -> str:
        """The context's directory; a user may have removed it since, and a kernel must start all the same."""
        return self.cwd if Path(self.cwd).is_dir() else "/"


class Contexts:
    """All contexts of the sandbox; the default one of each language starts on first use."""

    def __init__(self, environment: Environment, home: Path, preload: tuple[str, ...]) -> None:
        self.warmed = False
        self._environment = environment
        self._home = home
        self._preload = preload
        self._channels = zmq.asyncio.Context()
        self._by_id: dict[str, Context] = {}
        self._defaults: dict[str, Context] = {}

    async def warm(self) -> None:
        """The default Python context is ready to run code."""
        await self.default(DEFAULT_LANGUAGE).kernel()
        self.warmed = True

    def all(self) -> list[Context]:
        return list(self._by_id.values())

    def get(self, context_id: str) -> Context:
        if context_id == "default":
            return self.default(DEFAULT_LANGUAGE)
        try:
            return self._by_id[context_id]
        except KeyError:
            raise NoSuchContextError(f"context {context_id!r} does not exist; create one first") from None

    def default(self, language: str) -> Context:
        if language not in self._defaults:
            preload = self._preload if language == DEFAULT_LANGUAGE else ()
            self._defaults[language] = self._add(language, self._home, preload)
        return self._defaults[language]

    async def create(self, language: str, cwd: str | None) -> Context:
        """A new context whose kernel is ready."""
        directory = self._home / (cwd or "")
        if not directory.is_dir():
            raise BadDirectoryError(f"the directory {cwd!r} does not exist; create it before the context")
        context = self._add(language, directory)
        try:
            await context.kernel()
        except BaseException:
            await self.remove(context)
            raise
        return context

    async def remove(self, context: Context) -> None:
        self._by_id.pop(context.id, None)
        if self._defaults.get(context.language) is context:
            del self._defaults[context.language]
        await context.remove()

    def keep(self, variables: Mapping[str, str]) -> None:
        """Every kernel's environment has these variables from its next run on."""
        for context in self._by_id.values():
            context.keep(variables)

    async def close(self) -> None:
        await asyncio.gather(*(self.remove(context) for context in self.all()))
        self._channels.destroy(linger=0)

    def _add(self, language: str, directory: Path, preload: tuple[str, ...] = ()) -> Context:
        context = Context(self._channels, self._environment, language, str(directory), preload)
        self._by_id[context.id] = context
        return context
