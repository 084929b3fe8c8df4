"""The service, for programs that wait for each call: `client` and `chat`, word for word, without `await`."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from sandkeeper_client.api import LIMITS, TIMES, Api, Retries
from sandkeeper_client.chat import AsyncChat, Options
from sandkeeper_client.client import api
from sandkeeper_client.executions import AsyncExecution, View
from sandkeeper_client.notebooks import AsyncNotebook, CellType
from sandkeeper_client.replies import (
    Completions,
    Context,
    File,
    Health,
    Installed,
    Session,
    Status,
)
from sandkeeper_client.runs import (
    Artifact,
    Event,
    Output,
    PastRun,
    Progress,
    Result,
    Run,
)
from sandkeeper_client.uploads import About, Source
from sandkeeper_client.wires import BlockingWire, done, each


class Sandkeeper:
    """A Sandkeeper service, as the token's owner sees it.

    Without address or token it takes them from `SANDKEEPER_URL` and `SANDKEEPER_TOKEN`. `http` is a client of your
    own, for proxies, certificates or limits; it is closed together with this one. The token is sent to the service
    and to nobody else. One client is enough for a whole program, all of its threads included.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        retries: Retries = Retries(),  # noqa: B008 - it is frozen
        http: httpx.Client | None = None,
    ) -> None:
        self._api = api(BlockingWire(http or httpx.Client(timeout=TIMES, limits=LIMITS)), base_url, token, retries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._api.url)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections. Sessions live on."""
        done(self._api.wire.close())

    def chat(self, chat_id: str) -> "Chat":
        """Returns the chat of this id; one that nobody has heard of begins with its first run."""
        return Chat(self._api, chat_id)

    def sessions(self) -> Iterator[Session]:
        """Yields your live sessions, the one that expires next first."""
        return each(self._api.pages("/api/sessions", "sessions", Session))

    def health(self) -> Health:
        """Returns that the service is up, and which version of it."""
        return Health.of(done(self._api.get("/api/health")))


class Chat:
    """A chat and its warm sandbox: variables and files of earlier runs are there."""

    def __init__(self, api: Api, chat_id: str) -> None:
        self._chat = AsyncChat(api, chat_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def id(self) -> str:
        """What the chat is called."""
        return self._chat.id

    def run(
        self, code: str, *, on_output: Callable[[Output], object] | None = None, **options: Unpack[Options]
    ) -> Run:
        """Returns what came of the code, however long that takes; `options` are those of `Options`.

        `on_output` is told what the code shows, as it does. Whatever breaks on the way, the code runs once.
        """
        return done(self._chat.run(code, on_output=on_output, **options))

    def start(self, code: str, **options: Unpack[Options]) -> "Execution":
        """Returns at once the run that has begun; `options` are those of `Options`."""
        return Execution(done(self._chat.start(code, **options)))

    def execution(self, execution_id: str, *, include: Collection[View] = ()) -> "Execution":
        """Returns the run of this id, whoever has begun it."""
        return Execution(self._chat.execution(execution_id, include=include))

    def status(self) -> Status:
        """Returns whether the chat has a live session."""
        return done(self._chat.status())

    def session(self) -> Session | None:
        """Returns the live session; None where the chat has none."""
        return done(self._chat.session())

    def interrupt(self) -> bool:
        """Stops the code that the session is running, whose variables stay. Returns whether there was any."""
        return done(self._chat.interrupt())

    def complete(self, code: str, cursor: int | None = None) -> Completions:
        """Returns what could stand at the cursor, or at the end of the code, by what lives in the chat's kernel."""
        return done(self._chat.complete(code, cursor))

    def restart(self) -> None:
        """Gives the session a fresh kernel: variables go, files stay."""
        done(self._chat.restart())

    def close(self) -> None:
        """Closes the session and its sandbox. A chat that has none is as good as closed."""
        done(self._chat.close())

    def install(self, *packages: str) -> Installed:
        """Installs packages (PEP 508) into the sandbox; a failure of pip is a result, in its own words."""
        return done(self._chat.install(*packages))

    def upload(self, source: Source, **about: Unpack[About]) -> File:
        """Returns the file once it is ready for code, with what it holds; `about` are those of `About`.

        Content goes straight to S3. Raises `FileFailed` if the file cannot be used, and `TimedOut` if
        it was not read in time.
        """
        return done(self._chat.upload(source, **about))

    def files(self) -> list[File]:
        """Returns the chat's files, oldest first."""
        return done(self._chat.files())

    def file(self, file_id: str) -> File:
        """Returns the file, and what it holds once it has been read."""
        return done(self._chat.file(file_id))

    def delete_file(self, file: File | str) -> None:
        """Deletes the file: from S3, from the chat, and from the live sandbox."""
        done(self._chat.delete_file(file))

    def artifacts(self) -> Iterator[Artifact]:
        """Yields the files that the chat's runs have created or changed: those of the latest run first."""
        return each(self._chat.artifacts())

    def download(self, artifact: Artifact | str) -> bytes:
        """Returns the artifact's content, as it was at the end of its run."""
        return done(self._chat.download(artifact))

    def save(self, artifact: Artifact | str, to: str | os.PathLike[str]) -> Path:
        """Returns where the artifact was written to: `to`, or its own name in the folder `to`.

        It is written as it comes, so that its size does not matter, and is there whole or not at all.
        """
        return done(self._chat.save(artifact, to))

    def content(self, result: Result) -> bytes:
        """Returns what a result holds, also where it was too large for its reply."""
        return done(self._chat.content(result))

    def history(self) -> Iterator[PastRun]:
        """Yields the chat's runs of the last 30 days in brief, the latest first."""
        return each(self._chat.history())

    def notebook(self) -> dict[str, Any]:
        """Returns the chat as a Jupyter notebook, with all outputs."""
        return done(self._chat.notebook())

    def create_notebook(self, title: str) -> "Notebook":
        """Returns a notebook that has been made in this chat, without cells."""
        return Notebook(done(self._chat.create_notebook(title)))

    def open_notebook(self, notebook_id: str) -> "Notebook":
        """Returns the chat's notebook of this id."""
        return Notebook(self._chat.open_notebook(notebook_id))

    def context(self) -> Context:
        """Returns what a model has to know to write code that works in this chat."""
        return done(self._chat.context())

    def prompt(self, name: str, **arguments: str) -> str:
        """Returns the prompt of this name, filled from the chat: `data-analysis`, `error-recovery` …"""
        return done(self._chat.prompt(name, **arguments))


class Execution:
    """A run that has begun, and goes on without anybody."""

    def __init__(self, execution: AsyncExecution) -> None:
        self._execution = execution

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def id(self) -> str:
        """What finds the run again: `chat.execution(id)`."""
        return self._execution.id

    def look(self, *, wait: float = 0) -> Progress:
        """Returns how far the run is; waits for its end so many seconds, at most 20."""
        return done(self._execution.look(wait=wait))

    def wait(self, timeout: float | None = None) -> Run:
        """Returns what came of the run, once it has ended. Raises `TimedOut` after so many seconds."""
        return done(self._execution.wait(timeout))

    def cancel(self) -> Run:
        """Stops this run, and no other; returns it with what it put out. Variables stay."""
        return done(self._execution.cancel())

    def events(self, *, after: str = "") -> Iterator[Event]:
        """Yields what happens in the run as it does, from its beginning or behind the event of this id, to its end.

        Connections that end before are followed by others: no event is lost, and none comes twice.
        """
        return each(self._execution.events(after=after))


class Notebook:
    """A notebook of the chat: its code cells run in the chat's session, and keep what they show."""

    def __init__(self, notebook: AsyncNotebook) -> None:
        self._notebook = notebook

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def id(self) -> str:
        """What finds the notebook again: `chat.open_notebook(id)`."""
        return self._notebook.id

    def add(
        self,
        source: str,
        *,
        kind: CellType = "code",
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Returns the id of a cell that has been put at the notebook's end."""
        return done(self._notebook.add(source, kind=kind, metadata=metadata))

    def replace(self, cell_id: str, source: str, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Lets a cell say this, whatever it said before. What it shows stays, and metadata that are not given."""
        done(self._notebook.replace(cell_id, source, metadata=metadata))

    def run(
        self,
        cell_id: str,
        *,
        timeout: float | None = None,
        include: Collection[View] = (),
        idempotency_key: str | None = None,
    ) -> Execution:
        """Returns at once the run of a cell, which shows what comes of it; what may be given is as in `Options`."""
        run = self._notebook.run(cell_id, timeout=timeout, include=include, idempotency_key=idempotency_key)
        return Execution(done(run))

    def ipynb(self) -> dict[str, Any]:
        """Returns the notebook as a file of nbformat 4.5, with what its cells show."""
        return done(self._notebook.ipynb())
