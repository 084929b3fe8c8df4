"""The wire of Anthropic's Messages API: events of server-sent events, as `anthropic.types` has them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from examples.chat.models import Turn
from examples.chat.scripted.wires import MODEL, Request, Result, Unfit, matched, pieces, since_asked

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class AnthropicWire:
    name = "anthropic"
    content_type = "text/event-stream; charset=utf-8"

    def is_asked(self, path: str) -> bool:
        return path == "/v1/messages"

    def knows(self, headers: Mapping[str, str]) -> bool:
        is_keyed = "x-api-key" in headers or headers.get("authorization", "").startswith("Bearer ")
        return is_keyed and "anthropic-version" in headers

    def read(self, body: Any) -> Request:
        if body.get("stream") is not True:
            raise Unfit("only streams are scripted")
        questions: list[tuple[str, list[Result]]] = []
        called: list[str] = []
        for turn, message in enumerate(body["messages"]):
            if message["role"] != ("user", "assistant")[turn % 2]:
                raise Unfit("the roles of messages take no turns")
            blocks = _blocks(message["content"])
            if message["role"] == "assistant":
                called = [block["id"] for block in blocks if block["type"] == "tool_use"]
                continue
            results = [block for block in blocks if block["type"] == "tool_result"]
            matched(called, [block["tool_use_id"] for block in results])
            if results:
                questions[-1][1].extend(map(_result, results))
            else:
                questions.append((_text(blocks), []))
        question, results_since = since_asked(questions)
        tools = [tool["name"] for tool in body.get("tools", ())]
        return Request(system=body.get("system", ""), question=question, results=results_since, tools=tools)

    def write(self, turn: Turn) -> Iterator[bytes]:
        message: dict[str, Any] = {
            "id": "msg_scripted",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        yield _event("message_start", message=message)
        texts = [({"type": "text", "text": ""}, "text_delta", "text", turn.text)] if turn.text else []
        calls = [
            (
                {"type": "tool_use", "id": call.id, "name": call.name, "input": {}},
                "input_json_delta",
                "partial_json",
                call.arguments,
            )
            for call in turn.calls
        ]
        for index, (block, kind, name, text) in enumerate([*texts, *calls]):
            yield _event("content_block_start", index=index, content_block=block)
            for piece in pieces(text):
                yield _event("content_block_delta", index=index, delta={"type": kind, name: piece})
            yield _event("content_block_stop", index=index)
        stop = {"stop_reason": "tool_use" if turn.calls else "end_turn", "stop_sequence": None}
        yield _event("message_delta", delta=stop, usage={"output_tokens": 1})
        yield _event("message_stop")

    def refusal(self, status: int, detail: str) -> tuple[bytes, Mapping[str, str]]:
        told = {"type": "error", "error": {"type": KINDS.get(status, "api_error"), "message": detail}}
        return json.dumps(told).encode(), {"Content-Type": "application/json"}


def _event(kind: str, **told: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **told})}\n\n".encode()


def _blocks(content: Any) -> Sequence[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _text(blocks: Sequence[Any]) -> str:
    return "\n".join(block["text"] for block in blocks if block["type"] == "text")


def _result(block: Any) -> Result:
    parts = _blocks(block["content"])
    images = sum(part["type"] == "image" for part in parts)
    return Result(_text(parts), block.get("is_error", False), images)
