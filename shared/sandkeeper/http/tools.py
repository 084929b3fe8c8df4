"""The execute call as a tool, in the words of those who make models.

A model fills in what is in the schema; its caller adds `chatId` and sends the whole to `POST /api/jupyter/execute`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sandkeeper.http.execute_schemas import ExecuteRequest

NAME = "run_python"
DESCRIPTION = (
    "Runs Python in this chat's sandbox and returns what it shows: printed text, the value of the last expression,"
    " plots, tables, or the error. Variables, imports and files stay from call to call, unless the reply says that"
    " state was reset. The chat's files are in the working directory. Call plt.show() for a plot, and print"
    " summaries rather than whole tables."
)
FILLED_IN = ("code", "timeoutMs")
"""What of a request a model decides: which chat it is and how to wait is its caller's business."""

Tool = dict[str, Any]


@cache
def input_schema() -> Mapping[str, Any]:
    """Returns the JSON Schema of what a model fills in."""
    known = ExecuteRequest.model_json_schema(by_alias=True)
    return {
        "type": "object",
        "properties": {name: _plain(known["properties"][name]) for name in FILLED_IN},
        "required": [name for name in FILLED_IN if name in known["required"]],
        "additionalProperties": False,
    }


def _plain(field: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a field's schema without null, which is the same as leaving it out, and without what is our own."""
    (own,) = [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]
    merged = {**own, **field}
    return {name: value for name, value in merged.items() if name not in ("anyOf", "default", "examples", "title")}


def anthropic() -> list[Tool]:
    """Returns `tools` of a request to Anthropic's Messages API."""
    return [{"name": NAME, "description": DESCRIPTION, "input_schema": dict(input_schema())}]


def openai_chat() -> list[Tool]:
    """Returns `tools` of a request to OpenAI's Chat Completions API."""
    function = {"name": NAME, "description": DESCRIPTION, "parameters": dict(input_schema())}
    return [{"type": "function", "function": function}]


def openai_responses() -> list[Tool]:
    """Returns `tools` of a request to OpenAI's Responses API.

    Its strict mode would ask a model for every field, also for those that are better left out.
    """
    tool = {"name": NAME, "description": DESCRIPTION, "parameters": dict(input_schema())}
    return [{"type": "function", **tool, "strict": False}]


def bedrock() -> list[Tool]:
    """Returns `toolConfig.tools` of a request to Bedrock's Converse API."""
    schema = {"json": dict(input_schema())}
    return [{"toolSpec": {"name": NAME, "description": DESCRIPTION, "inputSchema": schema}}]
