"""A chat's context over HTTP, and its tools as those take them who make models."""

import json
from typing import Any

import anthropic.types
import openai.types.chat
import openai.types.responses
import openai.types.shared
import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator
from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from sandkeeper.http import context_schemas, tools
from sandkeeper.http.execute_schemas import ExecuteRequest
from sandkeeper.model import Column, FileKind, FileReading, Table
from tests.factories import record
from tests.world import CHAT, World

CONTEXT = "/api/chats/chat-1/context"
EXECUTE = "/api/jupyter/execute"
FILE_ID = "01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"


def add(world: World, *tables: Table, name: str = "data.csv", file_id: str = FILE_ID) -> None:
    """Adds a file that holds these tables."""
    world.catalog.add(record(name, file_id=file_id))
    reading = FileReading(size_bytes=1_234, kind=FileKind.CSV, tables=tables)
    world.catalog.mark_ready(CHAT, file_id, reading)


def columns(count: int, name: str = "column") -> list[Column]:
    """Returns so many columns."""
    return [Column(name=f"{name}{number}", type="integer", nulls=0) for number in range(count)]


@pytest.fixture
def context(client: TestClient) -> Any:
    """The context of a chat that nobody has heard of."""
    reply = client.get(CONTEXT)
    assert reply.status_code == 200, reply.text
    return reply.json()


# ── The reply ───────────────────────────────────────────────────────────────────────────────────────


def test_the_context_tells_all_that_the_contract_names(world: World, client: TestClient) -> None:
    world.run("1", file_ids=[])
    add(world, Table(columns=[Column(name="Salary", type="number", nulls=3)], row_count=15))

    told = client.get(CONTEXT).json()

    assert told.pop("tools").keys() == {"anthropic", "openai", "openaiResponses", "bedrock"}
    assert told.pop("text").startswith("# Python sandbox")
    assert told == {
        "chatId": "chat-1",
        "session": {"state": "idle", "hasVariables": True, "reason": None, "runCount": 1},
        "workingDirectory": "/home/user",
        "files": [
            {
                "fileId": FILE_ID,
                "path": "/home/user/data.csv",
                "name": "data.csv",
                "status": "ready",
                "kind": "csv",
                "size": 1_234,
                "tables": [
                    {
                        "name": None,
                        "columns": [{"name": "Salary", "type": "number"}],
                        "columnCount": 1,
                        "rowCount": 15,
                    }
                ],
                "tableCount": 1,
            }
        ],
        "packages": {
            "source": "sandbox",
            "packages": [{"name": "numpy", "version": "2.3.4"}, {"name": "pandas", "version": "2.3.3"}],
        },
        "limits": {
            "defaultTimeoutMs": 60_000,
            "maxTimeoutMs": 3_600_000,
            "textBytes": 3_000_000,
            "replyBytes": 4_000_000,
        },
    }


def test_the_text_alone_is_to_be_had_too(client: TestClient, context: Any) -> None:
    reply = client.get(CONTEXT, params={"format": "text"})

    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text == context["text"]


def test_another_format_is_refused(client: TestClient) -> None:
    reply = client.get(CONTEXT, params={"format": "xml"})

    assert reply.status_code == 422
    assert [field["pointer"] for field in reply.json()["errors"]] == ["query/format"]


def test_asking_makes_no_sandbox(world: World, context: Any) -> None:
    assert context["session"]["state"] == "none"
    assert world.sandboxes.specs == {}
    assert world.store.read(CHAT) is None


def test_another_owners_chat_has_no_context_of_its_own(world: World, client: TestClient) -> None:
    add(world, Table(columns=columns(1), row_count=1), name="secret.csv")
    world.run("1", file_ids=[])
    world.issue_key("sk_bob", "bob")

    told = client.get(CONTEXT, headers={"Authorization": "Bearer sk_bob"})

    assert "secret" not in told.text
    assert (told.json()["files"], told.json()["session"]["state"]) == ([], "none")


def test_many_columns_are_cut_and_counted_so_that_a_reply_holds_them(world: World, client: TestClient) -> None:
    """A chat may have 100 files, and a file as many sheets and columns as a row holds."""
    for number in range(100):
        sheets = [Table(name="s" * 500, columns=columns(300, "ü" * 500), row_count=1)] * 30
        add(world, *sheets, name=f"{number}.xlsx", file_id=f"01JDK3R6T6V0Q8ZJ8M3H4X5{number:03d}")

    reply = client.get(CONTEXT)

    files = reply.json()["files"]
    told = [len(each["columns"]) for file in files for each in file["tables"]]
    assert len(reply.content) < 4_000_000
    assert len(files) == 100
    assert {len(file["tables"]) for file in files} == {context_schemas.FILE_TABLES}
    assert {file["tableCount"] for file in files} == {30}
    assert {each["columnCount"] for file in files for each in file["tables"]} == {300}
    assert sum(told) == context_schemas.MOST_COLUMNS
    assert max(told) == context_schemas.TABLE_COLUMNS


# ── Tools ───────────────────────────────────────────────────────────────────────────────────────────


def strictly(kind: Any, tool: Any) -> None:
    """Fails unless the tool is what this type says, and has nothing that it does not name."""
    adapter = TypeAdapter(kind)
    assert json.loads(adapter.dump_json(adapter.validate_python(tool))) == tool


def test_the_tool_is_one_of_anthropics(context: Any) -> None:
    (tool,) = context["tools"]["anthropic"]

    strictly(anthropic.types.ToolParam, tool)
    assert tool["input_schema"] == tools.input_schema()


def test_the_tool_is_one_of_openais_chat_completions(context: Any) -> None:
    (tool,) = context["tools"]["openai"]

    strictly(openai.types.chat.ChatCompletionFunctionToolParam, tool)
    strictly(openai.types.shared.FunctionDefinition, {"strict": None, **tool["function"]})


def test_the_tool_is_one_of_openais_responses(context: Any) -> None:
    (tool,) = context["tools"]["openaiResponses"]

    strictly(openai.types.responses.FunctionToolParam, tool)


def test_the_tool_is_one_of_bedrocks_converse(context: Any) -> None:
    session = get_session()
    model = session.get_service_model("bedrock-runtime").operation_model("Converse").input_shape
    request = {"modelId": "a-model", "toolConfig": {"tools": context["tools"]["bedrock"]}}

    report = ParamValidator().validate(request, model)

    assert not report.has_errors(), report.generate_report()
    bad = {"modelId": "a-model", "toolConfig": {"tools": [{"toolSpec": {"name": "x"}}]}}
    assert ParamValidator().validate(bad, model).has_errors()


def test_all_of_them_ask_for_the_same(context: Any) -> None:
    told = context["tools"]

    schemas = [
        told["anthropic"][0]["input_schema"],
        told["openai"][0]["function"]["parameters"],
        told["openaiResponses"][0]["parameters"],
        told["bedrock"][0]["toolSpec"]["inputSchema"]["json"],
    ]

    assert schemas == [tools.input_schema()] * 4
    assert tools.input_schema()["required"] == ["code"]
    assert set(tools.input_schema()["properties"]) == {"code", "timeoutMs"}


@pytest.mark.parametrize("filled_in", [{"code": "1"}, {"code": "1", "timeoutMs": 1_000}])
def test_what_a_model_fills_in_is_run_once_the_chat_is_added(client: TestClient, filled_in: dict[str, Any]) -> None:
    assert client.post(EXECUTE, json={"chatId": "chat-1", **filled_in}).status_code == 200


def test_the_schema_is_that_of_the_request_without_what_models_leave_to_their_callers() -> None:
    fields = ExecuteRequest.model_fields
    code, timeout = (tools.input_schema()["properties"][name] for name in ("code", "timeoutMs"))

    assert code["description"] == fields["code"].description
    assert timeout["description"] == fields["timeout_ms"].description
    assert (timeout["type"], timeout["minimum"], timeout["maximum"]) == ("integer", 1_000, 3_600_000)
    assert "null" not in json.dumps(tools.input_schema())
