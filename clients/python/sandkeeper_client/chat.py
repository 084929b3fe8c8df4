"""A chat, for programs that `await`. `blocking` has the same for those that do not."""

import inspect
import os
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from sandkeeper_client.api import Api, Call, Transfer, checked_id, checked_key, only_known
from sandkeeper_client.errors import (
    FileFailed,
    InvalidInput,
    NotFound,
    TimedOut,
)
from sandkeeper_client.executions import AsyncExecution, View
from sandkeeper_client.notebooks import AsyncNotebook
from sandkeeper_client.replies import (
    Completions,
    Context,
    File,
    FileList,
    FilledPrompt,
    Installed,
    Interrupted,
    MadeNotebook,
    RegisteredFile,
    Session,
    Status,
)
from sandkeeper_client.runs import (
    Artifact,
    Begun,
    Output,
    PastRun,
    Result,
    Run,
)
from sandkeeper_client.uploads import About, Source, content_of, name_of, size_of, type_of

EXECUTE = "/api/jupyter/execute"
READ_WITHIN_S, READ_FIRST_S, READ_LONGEST_S = 60.0, 0.05, 1.0
"""For how long it is asked whether a file has been read, and how soon again."""

Heard = Callable[[Output], Awaitable[object] | object]


class Options(TypedDict, total=False):
    """How code is run."""

    timeout: float | None
    """Limit for the code, in seconds: 1 to 3600. The service's, if absent. Variables and output are kept at it."""
    files: Collection[File | str] | None
    """Which files, or ids of files, must be there before the code runs. All that are ready, if absent."""
    include: Collection[View]
    """What the run is to tell besides: `outputs` as a notebook keeps them, `model` for a language model."""
    on_busy: Literal["wait", "reject"]
    """What to do while another run has the session. Wait, if absent; else `SessionBusy` is raised at once."""
    idempotency_key: str
    """Names this run: whoever sends it again with the same key gets what came of it. A fresh one, if absent."""


class AsyncChat:
    """A chat and its warm sandbox: variables and files of earlier runs are there."""

    def __init__(self, api: Api, chat_id: str) -> None:
        self._api = api
        self.id = checked_id("chat id", chat_id)
        self._path = f"/api/chats/{self.id}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    # ── Running code ────────────────────────────────────────────────────────────────────────────────────

    async def run(self, code: str, *, on_output: Heard | None = None, **options: Unpack[Options]) -> Run:
        """Returns what came of the code, however long that takes; `options` are those of `Options`.

        `on_output` is told what the code shows, as it does. Whatever breaks on the way, the code runs once.
        """
        told = await self._execute(code, "auto" if on_output is None else "async", options)
        execution = self._handle(told, options)
        if on_output is not None:
            await _tell(on_output, execution)
        return Run.of(told) if "success" in told else await execution.wait()

    async def start(self, code: str, **options: Unpack[Options]) -> AsyncExecution:
        """Returns at once the run that has begun; `options` are those of `Options`."""
        return self._handle(await self._execute(code, "async", options), options)

    def execution(self, execution_id: str, *, include: Collection[View] = ()) -> AsyncExecution:
        """Returns the run of this id, whoever has begun it."""
        return AsyncExecution(self._api, self.id, execution_id, include)

    def _handle(self, told: Any, options: Options) -> AsyncExecution:
        return self.execution(Begun.of(told).execution_id, include=options.get("include", ()))

    async def _execute(self, code: str, mode: str, options: Options) -> Any:
        """Returns what is answered: what came of the run, or where it is followed."""
        only_known(options, Options)
        body: dict[str, Any] = {"chatId": self.id, "code": code, "mode": mode}
        body |= {"include": sorted(options.get("include", ())), "onBusy": options.get("on_busy", "wait")}
        timeout, files = options.get("timeout"), options.get("files")
        if timeout is not None:
            body["timeoutMs"] = round(timeout * 1000)
        if files is not None:
            body["fileIds"] = [_file_id(each) for each in files]
        call = Call(
            method="POST",
            path=EXECUTE,
            json=body,
            headers={"Idempotency-Key": checked_key(options.get("idempotency_key", uuid.uuid4().hex))},
            waits_for_session=body["onBusy"] == "wait",
        )
        return await self._api.json(call)

    # ── Session ─────────────────────────────────────────────────────────────────────────────────────────

    async def status(self) -> Status:
        """Returns whether the chat has a live session."""
        return Status.of(await self._api.get(EXECUTE, chatId=self.id))

    async def session(self) -> Session | None:
        """Returns the live session; None where the chat has none."""
        try:
            return Session.of(await self._api.get(f"{self._path}/session"))
        except NotFound as problem:
            if problem.slug == "session-not-found":
                return None
            raise

    async def interrupt(self) -> bool:
        """Stops the code that the session is running, whose variables stay. Returns whether there was any."""
        return Interrupted.of(await self._api.json(self._once("/session/interrupt"))).interrupted

    async def complete(self, code: str, cursor: int | None = None) -> Completions:
        """Returns what could stand at the cursor, or at the end of the code, by what lives in the chat's kernel."""
        asked = {"code": code, "cursor": len(code) if cursor is None else cursor}
        return Completions.of(
            await self._api.json(Call(method="POST", path=f"{self._path}/session/complete", json=asked))
        )

    async def restart(self) -> None:
        """Gives the session a fresh kernel: variables go, files stay."""
        await self._api.json(self._once("/session/restart"))

    async def close(self) -> None:
        """Closes the session and its sandbox. A chat that has none is as good as closed."""
        await self._api.json(Call(method="DELETE", path=EXECUTE, params={"chatId": self.id}))

    async def install(self, *packages: str) -> Installed:
        """Installs packages (PEP 508) into the sandbox; a failure of pip is a result, in its own words."""
        path = f"{self._path}/packages"
        return Installed.of(await self._api.json(Call(method="POST", path=path, json={"packages": packages})))

    def _once(self, path: str, body: Mapping[str, Any] | None = None) -> Call:
        """Returns a call that would do another thing if it was heard twice."""
        return Call(method="POST", path=self._path + path, json=body, is_repeatable=False)

    # ── Files ───────────────────────────────────────────────────────────────────────────────────────────

    async def upload(self, source: Source, **about: Unpack[About]) -> File:
        """Returns the file once it is ready for code, with what it holds; `about` are those of `About`.

        Content goes straight to S3. Raises `FileFailed` if the file cannot be used, and `TimedOut` if
        it was not read in time.
        """
        only_known(about, About)
        name = name_of(source, about.get("name"))
        kind = about.get("content_type") or type_of(name)
        with content_of(source) as content:
            told = {"fileName": name, "size": size_of(content), "contentType": kind}
            told["replace"] = about.get("replace", False)
            call = Call(method="POST", path=f"{self._path}/files", json=told, is_repeatable=False)
            registered = RegisteredFile.of(await self._api.json(call))
            url, form = registered.upload.url, registered.upload.fields
            async with self._api.open(Transfer(method="POST", url=url, form=form, content=content), whole=True):
                pass
        return await self._read(registered.file_id, about.get("within_s", READ_WITHIN_S))

    async def _read(self, file_id: str, within_s: float) -> File:
        until, pause = time.monotonic() + within_s, READ_FIRST_S
        while (file := await self.file(file_id)).status == "pending":
            if time.monotonic() > until:
                raise TimedOut(f"{file.name!r} was not read within {within_s} s; ask for file({file_id!r}) later")
            await self._api.wire.sleep(pause)
            pause = min(READ_LONGEST_S, pause * 1.5)
        if file.status == "failed":
            raise FileFailed(file)
        return file

    async def files(self) -> list[File]:
        """Returns the chat's files, oldest first."""
        return [*FileList.of(await self._api.get(f"{self._path}/files")).files]

    async def file(self, file_id: str) -> File:
        """Returns the file, and what it holds once it has been read."""
        return File.of(await self._api.get(f"{self._path}/files/{checked_id('file id', file_id)}"))

    async def delete_file(self, file: File | str) -> None:
        """Deletes the file: from S3, from the chat, and from the live sandbox."""
        await self._api.json(Call(method="DELETE", path=f"{self._path}/files/{_file_id(file)}"))

    # ── What runs have left ─────────────────────────────────────────────────────────────────────────────

    async def artifacts(self) -> AsyncGenerator[Artifact, None]:
        """Yields the files that the chat's runs have created or changed: those of the latest run first."""
        async for artifact in self._api.pages(f"{self._path}/artifacts", "artifacts", Artifact):
            yield artifact

    async def download(self, artifact: Artifact | str) -> bytes:
        """Returns the artifact's content, as it was at the end of its run."""
        return b"".join([chunk async for chunk in self._api.content(await self._address(artifact))])

    async def save(self, artifact: Artifact | str, to: str | os.PathLike[str]) -> Path:
        """Returns where the artifact was written to: `to`, or its own name in the folder `to`.

        It is written as it comes, so that its size does not matter, and is there whole or not at all.
        """
        path = Path(to)
        if path.is_dir():
            path /= _name_of(artifact)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            with part.open("xb") as file:
                async with aclosing(self._api.content(await self._address(artifact))) as content:
                    async for chunk in content:
                        file.write(chunk)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path

    async def _address(self, artifact: Artifact | str) -> str:
        artifact_id = artifact.artifact_id if isinstance(artifact, Artifact) else artifact
        return await self._api.led_to(f"{self._path}/artifacts/{checked_id('artifact id', artifact_id)}")

    async def content(self, result: Result) -> bytes:
        """Returns what a result holds, also where it was too large for its reply."""
        if result.url is None:
            return result.data
        return b"".join([chunk async for chunk in self._api.content(result.url)])

    async def history(self) -> AsyncGenerator[PastRun, None]:
        """Yields the chat's runs of the last 30 days in brief, the latest first."""
        async for run in self._api.pages(f"{self._path}/executions", "executions", PastRun):
            yield run

    async def notebook(self) -> dict[str, Any]:
        """Returns the chat as a Jupyter notebook, with all outputs."""
        notebook: dict[str, Any] = await self._api.get(f"{self._path}/notebook")
        return notebook

    async def create_notebook(self, title: str) -> AsyncNotebook:
        """Returns a notebook that has been made in this chat, without cells."""
        told = await self._api.json(self._once("/notebooks", {"title": title, "cells": []}))
        return self.open_notebook(MadeNotebook.of(told).notebook_id)

    def open_notebook(self, notebook_id: str) -> AsyncNotebook:
        """Returns the chat's notebook of this id."""
        return AsyncNotebook(self._api, self.id, notebook_id)

    async def context(self) -> Context:
        """Returns what a model has to know to write code that works in this chat."""
        return Context.of(await self._api.get(f"{self._path}/context"))

    async def prompt(self, name: str, **arguments: str) -> str:
        """Returns the prompt of this name, filled from the chat: `data-analysis`, `error-recovery` …"""
        path = f"{self._path}/prompts/{checked_id('prompt', name)}"
        return FilledPrompt.of(await self._api.get(path, **arguments)).text


async def _tell(on_output: Heard, execution: AsyncExecution) -> None:
    async with aclosing(execution.events()) as events:
        async for event in events:
            if isinstance(event, Output) and inspect.isawaitable(heard := on_output(event)):
                await heard


def _file_id(file: File | str) -> str:
    return checked_id("file id", file.file_id if isinstance(file, File) else file)


def _name_of(artifact: Artifact | str) -> str:
    """Returns a name in a folder: the sandbox has chosen the path, so only its last part counts."""
    name = Path(artifact.path).name if isinstance(artifact, Artifact) else artifact
    if not name or name in (".", ".."):
        raise InvalidInput(f"artifact {artifact!r} has no name; give the path of a file to save it to")
    return name
