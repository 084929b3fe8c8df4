"""The wire of OpenAI's Chat Completions API: chunks as server-sent events, as `openai.types.chat` has them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from examples.chat.models import Turn
from examples.chat.scripted.wires import MODEL, Request, Result, Unfit, matched, pieces, since_asked

FAILED = "Error ("
"""How a result says that it is one: this API has no field for that."""


class OpenAIWire:
    name = "openai"
    content_type = "text/event-stream; charset=utf-8"

    def is_asked(self, path: str) -> bool:
        return path == "/v1/chat/completions"

    def knows(self, headers: Mapping[str, str]) -> bool:
        return headers.get("authorization", "").startswith("Bearer ")

    def read(self, body: Any) -> Request:
        if body.get("stream") is not True:
            raise Unfit("only streams are scripted")
        system = ""
        questions: list[tuple[str, list[Result]]] = []
        called: list[str] = []
        answered: list[str] = []
        for message in body["messages"]:
            if message["role"] == "tool":
                answered.append(message["tool_call_id"])
                text = message["content"]
                questions[-1][1].append(Result(text, FAILED in text))
                continue
            matched(called, answered)
            if message["role"] == "system":
                system = message["content"]
            if message["role"] == "user" and not answered:
                questions.append((_text(message["content"]), []))
            if message["role"] == "user" and answered:
                _show(questions[-1][1], message["content"])
            called = [call["id"] for call in message.get("tool_calls", ())]
            answered = []
        matched(called, answered)
        question, results = since_asked(questions)
        tools = [tool["function"]["name"] for tool in body.get("tools", ())]
        return Request(system=system, question=question, results=results, tools=tools)

    def write(self, turn: Turn) -> Iterator[bytes]:
        yield _chunk({"role": "assistant", "content": None if turn.calls else ""})
        for piece in pieces(turn.text):
            yield _chunk({"content": piece})
        for index, call in enumerate(turn.calls):
            function = {"name": call.name, "arguments": ""}
            made = {"index": index, "id": call.id, "type": "function", "function": function}
            yield _chunk({"tool_calls": [made]})
            for piece in pieces(call.arguments):
                yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield _chunk({}, "tool_calls" if turn.calls else "stop")
        yield b"data: [DONE]\n\n"

    def refusal(self, status: int, detail: str) -> tuple[bytes, Mapping[str, str]]:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        told = {"error": {"message": detail, "type": kind, "param": None, "code": None}}
        return json.dumps(told).encode(), {"Content-Type": "application/json"}


def _chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
    told = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }
    return f"data: {json.dumps(told)}\n\n".encode()


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _show(results: list[Result], content: Any) -> None:
    """Gives the last result the pictures that come behind it."""
    parts: Sequence[Any] = [] if isinstance(content, str) else content
    results[-1] = replace(results[-1], images=sum(part["type"] == "image_url" for part in parts))
