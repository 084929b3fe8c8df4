"""The Model Context Protocol, through its official client: tools and prompts, callers and chats."""

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, EmbeddedResource, ResourceLink, TextResourceContents

from sandkeeper.errors import SessionBusy
from sandkeeper.mcp import content, file_tools, notebook_tools, run_tools
from sandkeeper.mcp.tools import TOOLS
from sandkeeper.model import ChangedFile, Changes, ChatKey, Display, Raised, RunEnd, RunOutcome, SandboxRef, Stream
from sandkeeper.notebooks import Draft
from sandkeeper.services.requests import RunRequest
from tests.mcp_client import ERAS, Connection, Era, images_of, text_of
from tests.mcp_world import URL, app_of, mcp_world
from tests.world import CHAT, TOKEN, World

PNG = base64.b64encode(b"\x89PNG image").decode()
UNKNOWN = "01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"


@pytest.fixture
def world() -> Iterator[World]:
    """A service whose wiring is that of the MCP function."""
    with mcp_world() as made:
        yield made


@pytest.fixture
def transport(world: World) -> httpx2.ASGITransport:
    """The application, without a network."""
    return httpx2.ASGITransport(app_of(world))


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> Era:
    """Which version of the protocol the client speaks."""
    era: Era = request.param
    return era


@pytest.fixture
def many(transport: httpx2.ASGITransport, era: Era) -> Connection:
    """A connection on which every call names its chat."""
    return Connection(URL, TOKEN, transport, era)


@pytest.fixture
def mcp(transport: httpx2.ASGITransport) -> Connection:
    """A connection that is about one chat."""
    return Connection(f"{URL}?chatId={CHAT.chat_id}", TOKEN, transport)


def shows(
    world: World, *outputs: Any, end: RunEnd = RunEnd.FINISHED, files: dict[str, bytes] | None = None
) -> None:
    """Has all code show this, and make these files."""

    def program(sandbox: SandboxRef, _: str) -> RunOutcome:
        made = {f"/home/user/{name}": each for name, each in (files or {}).items()}
        world.sandboxes.alive[sandbox.sandbox_id] |= made
        return RunOutcome([*outputs], end, Changes([ChangedFile(path, len(each)) for path, each in made.items()]))

    world.sandboxes.program = program


# ── Tools ───────────────────────────────────────────────────────────────────────────────────────────


def test_all_tools_are_listed_with_their_schemas(many: Connection) -> None:
    tools = {tool.name: tool for tool in many.ask(lambda client: client.list_tools()).tools}

    assert tools.keys() == TOOLS.keys()
    for tool in tools.values():
        assert jsonschema_rs.meta.is_valid(tool.input_schema)
        assert tool.input_schema["additionalProperties"] is False
        assert "chatId" in tool.input_schema["required"]
        assert tool.description


def test_code_runs_and_is_answered_as_text(world: World, many: Connection) -> None:
    shows(world, Stream("stdout", "42\n"))

    result = many.call("run_python", chatId="chat-1", code="print(6 * 7)")

    assert not result.is_error
    assert "stdout:\n42" in text_of(result)
    assert world.row(CHAT).run_count == 1


def test_plots_come_as_images(world: World, mcp: Connection) -> None:
    shows(world, Display({"image/png": PNG, "text/plain": "<Figure>"}))

    (image,) = images_of(mcp.call("run_python", code="plt.show()"))

    assert (image.data, image.mime_type) == (PNG, "image/png")


def test_images_for_which_there_is_no_room_are_told(world: World, mcp: Connection) -> None:
    shows(world, *[Display({"image/png": "A" * (content.IMAGE_CHARS // 2 + 4)})] * 3)

    result = mcp.call("run_python", code="plt.show()")

    assert len(images_of(result)) == 1
    assert "2 of 3 images left out" in text_of(result)


def test_a_program_that_raises_is_an_error_of_the_tool(world: World, mcp: Connection) -> None:
    shows(world, Raised("KeyError", "'Salery'", "Traceback\nKeyError: 'Salery'"))

    result = mcp.call("run_python", code="df['Salery']")

    assert result.is_error
    assert "KeyError: 'Salery'" in text_of(result)


def test_a_result_is_bounded_however_much_there_is(world: World, mcp: Connection) -> None:
    shows(world, *[Stream("stdout", "x" * 1_000_000)] * 2)

    assert len(text_of(mcp.call("run_python", code="1"))) < 10_000


def test_a_run_that_goes_on_is_waited_for_with_another_tool(world: World, mcp: Connection) -> None:
    world.sandboxes.program = lambda *_: None
    began = mcp.ask(_begun(world))

    world.sandboxes.finish(began, RunOutcome([Stream("stdout", "done")], RunEnd.FINISHED))
    result = mcp.call("wait_for_run", executionId=began)

    assert "done" in text_of(result)
    assert not result.is_error


def _begun(world: World) -> Any:
    async def begun(_: Any) -> str:
        request = RunRequest(
            key=CHAT, code="slow()", file_ids=None, limit=timedelta(seconds=60), on_busy="wait", mode="async"
        )
        return world.wiring.execute(request).execution.execution_id

    return begun


def test_what_is_said_of_a_run_that_goes_on_names_the_tool_to_call(
    world: World, mcp: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_tools, "WAIT", timedelta(0))
    world.sandboxes.program = lambda *_: None
    began = mcp.ask(_begun(world))

    result = mcp.call("wait_for_run", executionId=began)

    assert text_of(result).startswith(f"The run goes on as execution {began}. Call wait_for_run")
    assert not result.is_error


def test_progress_is_told_until_the_run_ends(
    world: World, many: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_tools, "TELL_EVERY_S", 0.05)
    monkeypatch.setattr(run_tools, "PAUSE_S", 0.0)
    world.sandboxes.program = lambda *_: None
    heard: list[tuple[float, float | None, str | None]] = []
    asked: list[str] = []

    def followed(where: SandboxRef, run_id: str, **given: Any) -> Any:
        asked.append(run_id)
        if len(asked) == 4:  # whoever asks for a run follows it too
            world.sandboxes.finish(run_id, RunOutcome([Stream("stdout", "step 1\nstep 2\n")], RunEnd.FINISHED))
        return world.sandboxes.follow(where, run_id, **given)

    world.taps["sandboxes"].instead["follow"] = followed

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    result = many.ask(
        lambda client: client.call_tool(
            "run_python", {"chatId": "chat-1", "code": "slow()", "timeoutMs": 5_000}, progress_callback=hear
        )
    )

    assert "step 2" in text_of(result)
    assert len(heard) == 2
    assert [(total, line) for _, total, line in heard] == [(5.0, "running")] * 2
    assert sorted(progress for progress, _, _ in heard) == [progress for progress, _, _ in heard]


def test_a_run_can_be_stopped(world: World, mcp: Connection) -> None:
    world.sandboxes.program = lambda *_: None
    began = mcp.ask(_begun(world))

    result = mcp.call("stop_run", executionId=began)

    assert result.is_error
    assert "the code was stopped" in text_of(result)


def test_reset_takes_variables_or_all_of_the_sandbox(world: World, mcp: Connection) -> None:
    world.run()
    assert "Variables are gone" in text_of(mcp.call("reset"))
    assert len(world.sandboxes.alive) == 1

    assert "The sandbox is gone" in text_of(mcp.call("reset", what="everything"))
    assert world.sandboxes.alive == {}


def test_the_sandbox_is_described_without_making_one(world: World, mcp: Connection) -> None:
    assert text_of(mcp.call("describe_sandbox")).startswith("# Python sandbox")
    assert world.sandboxes.alive == {}


def test_files_are_listed_and_told_of(world: World, mcp: Connection) -> None:
    file = world.add_file("data.csv", b"a,b\n1,2\n")
    world.ingest(CHAT, file.file_id)

    assert "/home/user/data.csv" in text_of(mcp.call("list_files"))
    for name in ("data.csv", file.path, file.file_id):
        assert json.loads(text_of(mcp.call("file_metadata", file=name)))["fileId"] == file.file_id
    missing = mcp.call("file_metadata", file="no.csv")
    assert missing.is_error
    assert "file-not-found: chat 'chat-1' has no file 'no.csv'" in text_of(missing)


def test_metadata_stays_short(world: World, mcp: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    file = world.add_file("data.csv", b"a,b\n1,2\n")
    world.ingest(CHAT, file.file_id)
    whole = text_of(mcp.call("file_metadata", file="data.csv"))

    monkeypatch.setattr(file_tools, "METADATA_CHARS", len(whole) - 1)
    assert "sample" not in text_of(mcp.call("file_metadata", file="data.csv"))
    monkeypatch.setattr(file_tools, "METADATA_CHARS", 200)
    assert text_of(mcp.call("file_metadata", file="data.csv")).startswith("- `/home/user/data.csv`")


@pytest.mark.parametrize(
    ("name", "made"), [("out.csv", b"a,b\n1,2\n"), ("out.bin", bytes(range(256))), ("out.txt", b"\xff\xfe")]
)
def test_artifacts_are_fetched_byte_for_byte(world: World, mcp: Connection, name: str, made: bytes) -> None:
    shows(world, files={name: made})
    run_id = world.run().execution.execution_id

    assert f"- {run_id}-0: /home/user/{name}, version 1" in text_of(mcp.call("list_artifacts"))
    embedded, link = mcp.call("get_artifact", artifactId=f"{run_id}-0").content

    assert isinstance(embedded, EmbeddedResource)
    assert isinstance(link, ResourceLink)
    if isinstance(embedded.resource, TextResourceContents):
        assert embedded.resource.text.encode() == made
    else:
        assert base64.b64decode(embedded.resource.blob) == made
    assert world.artifact_contents.content_at(link.uri) == made


def test_an_image_that_code_has_saved_comes_as_an_image(world: World, mcp: Connection) -> None:
    shows(world, files={"plot.png": b"\x89PNG image"})
    run_id = world.run().execution.execution_id

    (image,) = images_of(mcp.call("get_artifact", artifactId=f"{run_id}-0"))

    assert image.data == PNG


def test_a_large_artifact_is_linked_to(world: World, mcp: Connection) -> None:
    shows(world, files={"out.bin": bytes(file_tools.EMBED_BYTES + 1)})
    run_id = world.run().execution.execution_id

    text, link = mcp.call("get_artifact", artifactId=f"{run_id}-0").content

    assert "too large for a result" in str(text)
    assert isinstance(link, ResourceLink)


def test_a_notebook_is_made_read_changed_and_run(world: World, mcp: Connection) -> None:
    shows(world, Stream("stdout", "42"))
    cells = [{"source": "x = 42"}, {"type": "markdown", "source": "# Answer"}, {"source": "print(x)"}]
    made = json.loads(text_of(mcp.call("create_notebook", title="Answers", cells=cells)))
    first, _, last = (cell["cellId"] for cell in made["cells"])
    assert "'Answers', 3 cells" in text_of(mcp.call("list_notebooks"))

    changed = [{"cellId": last}, {"source": "y = 1"}, {"cellId": first, "source": "x = 43"}]
    update = {"notebookId": made["notebookId"], "version": made["version"], "cells": changed}
    updated = json.loads(text_of(mcp.call("update_notebook", **update)))
    assert [cell["source"] for cell in updated["cells"]] == ["print(x)", "y = 1", "x = 43"]
    assert updated["title"] == "Answers"

    late = mcp.call("update_notebook", **update)
    assert late.is_error
    assert "version-stale" in text_of(late)

    assert "42" in text_of(mcp.call("run_notebook", notebookId=made["notebookId"], cellId=first))
    ran = json.loads(text_of(mcp.call("run_notebook", notebookId=made["notebookId"])))
    assert [cell["state"] for cell in ran["cells"]] == ["succeeded"] * 3
    assert json.loads(text_of(mcp.call("read_notebook", notebookId=made["notebookId"]))) == ran


def test_a_cell_needs_a_source_or_one_to_keep(world: World, mcp: Connection) -> None:
    notebook = world.wiring.notebooks.create(CHAT, "N", [])
    for cells, wrong in (([{}], "cells[0] has neither"), ([{"cellId": "x"}], "cell-not-found")):
        result = mcp.call("update_notebook", notebookId=notebook.notebook_id, version=1, cells=cells)
        assert result.is_error
        assert wrong in text_of(result)


def test_sources_of_a_large_notebook_are_cut_and_kept_by_an_update(
    world: World, mcp: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook_tools, "SOURCES_CHARS", 500)
    long = Draft(source="x = 1\n" * 100, cell_id="long")
    notebook = world.wiring.notebooks.create(CHAT, "N", [long])

    (cell,) = json.loads(text_of(mcp.call("read_notebook", notebookId=notebook.notebook_id)))["cells"]
    assert (len(cell["source"]), cell["sourceIsCut"], cell["chars"]) == (200, True, 600)

    mcp.call("update_notebook", notebookId=notebook.notebook_id, version=1, cells=[{"cellId": "long"}])
    assert world.wiring.notebooks.read(CHAT, notebook.notebook_id)[1][0].source.text == long.source


# ── What is refused ─────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_tool_is_an_error_of_the_protocol(many: Connection) -> None:
    with pytest.raises(MCPError, match="there is no tool 'rm'; there are describe_sandbox, ") as error:
        many.call("rm", chatId="chat-1")

    assert error.value.code == INVALID_PARAMS


@pytest.mark.parametrize(
    ("tool", "arguments", "wrong"),
    [
        ("run_python", {"code": "x" * 50_001}, "code: String should have at most 50000 characters, not 'xxx"),
        ("run_python", {}, "code: Field required"),
        ("run_python", {"code": "1", "timeoutMs": 3_600_001}, "timeoutMs: "),
        ("run_python", {"code": "1", "shell": True}, "shell: Extra inputs are not permitted"),
        ("wait_for_run", {"executionId": "../x"}, "executionId: "),
        ("get_artifact", {"artifactId": "x"}, "artifactId: "),
        ("describe_sandbox", {"chatId": "chat-2"}, "this connection is about one chat"),
    ],
)
def test_wrong_arguments_are_told_so_that_a_model_can_mend_them(
    world: World, mcp: Connection, tool: str, arguments: dict[str, Any], wrong: str
) -> None:
    result = mcp.call(tool, **arguments)

    assert result.is_error
    assert text_of(result).startswith("invalid-request: ")
    assert wrong in text_of(result)
    assert len(text_of(result)) < 1_000
    assert world.sandboxes.alive == {}


@pytest.mark.parametrize("chat", [None, "no chat", "x" * 129, 7])
def test_a_call_names_its_chat(many: Connection, chat: Any) -> None:
    result = many.call("list_files", **({} if chat is None else {"chatId": chat}))

    assert result.is_error
    assert "chatId" in text_of(result)


def test_ids_of_another_chat_are_unknown(world: World, mcp: Connection) -> None:
    other = world.run(key=ChatKey("bob", CHAT.chat_id)).execution.execution_id

    assert "execution-not-found" in text_of(mcp.call("wait_for_run", executionId=other))
    assert "artifact-not-found" in text_of(mcp.call("get_artifact", artifactId=f"{other}-0"))


def test_what_may_pass_says_when_to_try_again(world: World, mcp: Connection) -> None:
    world.taps["catalog"].fail("of_chat", SessionBusy("another call has it"))

    assert text_of(mcp.call("list_files")) == "session-busy: another call has it. Try again in 2 s."


def test_an_unexpected_error_says_nothing_of_the_inside(world: World, mcp: Connection) -> None:
    world.taps["catalog"].fail("of_chat", ZeroDivisionError("secret inside"))

    with pytest.raises(MCPError, match="an unexpected error happened; report it with request id") as error:
        mcp.call("list_files")

    assert error.value.code == INTERNAL_ERROR
    assert "secret" not in str(error.value)
    assert [type(each) for each in world.journal.errors] == [ZeroDivisionError]
