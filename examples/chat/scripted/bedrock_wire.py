"""The wire of Bedrock's ConverseStream: messages of AWS's binary event stream, as botocore reads them."""

import json
import re
import struct
from binascii import crc32
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from examples.chat.models import Turn
from examples.chat.scripted.wires import Request, Result, matched, pieces, since_asked

CODES = {400: "ValidationException", 403: "AccessDeniedException", 429: "ThrottlingException"}
STRING = 7
"""How the event stream says that a header's value is text."""


class BedrockWire:
    name = "bedrock"
    content_type = "application/vnd.amazon.eventstream"

    def is_asked(self, path: str) -> bool:
        return re.fullmatch(r"/model/[^/]+/converse-stream", path) is not None

    def knows(self, headers: Mapping[str, str]) -> bool:
        return headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 ")

    def read(self, body: Any) -> Request:
        questions: list[tuple[str, list[Result]]] = []
        called: list[str] = []
        for message in body["messages"]:
            blocks = message["content"]
            if message["role"] == "assistant":
                called = [block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block]
                continue
            results = [block["toolResult"] for block in blocks if "toolResult" in block]
            matched(called, [result["toolUseId"] for result in results])
            if results:
                questions[-1][1].extend(map(_result, results))
            else:
                questions.append((_text(blocks), []))
        question, results_since = since_asked(questions)
        tools = [tool["toolSpec"]["name"] for tool in body.get("toolConfig", {}).get("tools", ())]
        system = _text(body.get("system", ()))
        return Request(system=system, question=question, results=results_since, tools=tools)

    def write(self, turn: Turn) -> Iterator[bytes]:
        yield framed("messageStart", {"role": "assistant"})
        for piece in pieces(turn.text):
            yield framed("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}})
        if turn.text:
            yield framed("contentBlockStop", {"contentBlockIndex": 0})
        for index, call in enumerate(turn.calls, start=int(bool(turn.text))):
            start = {"toolUse": {"toolUseId": call.id, "name": call.name}}
            yield framed("contentBlockStart", {"contentBlockIndex": index, "start": start})
            for piece in pieces(call.arguments):
                delta = {"toolUse": {"input": piece}}
                yield framed("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})
            yield framed("contentBlockStop", {"contentBlockIndex": index})
        yield framed("messageStop", {"stopReason": "tool_use" if turn.calls else "end_turn"})
        usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
        yield framed("metadata", {"usage": usage, "metrics": {"latencyMs": 1}})

    def refusal(self, status: int, detail: str) -> tuple[bytes, Mapping[str, str]]:
        code = CODES.get(status, "InternalServerException")
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": code}
        return json.dumps({"message": detail}).encode(), headers


def framed(event: str, told: Mapping[str, Any]) -> bytes:
    """Returns an event as one message: lengths and their checksum, headers, payload, checksum of it all."""
    payload = json.dumps(told).encode()
    headers = _header(":event-type", event) + _header(":content-type", "application/json")
    headers += _header(":message-type", "event")
    prelude = struct.pack("!II", 4 + 4 + 4 + len(headers) + len(payload) + 4, len(headers))
    message = prelude + struct.pack("!I", crc32(prelude)) + headers + payload
    return message + struct.pack("!I", crc32(message))


def _header(name: str, value: str) -> bytes:
    coded, text = name.encode(), value.encode()
    return struct.pack("!B", len(coded)) + coded + struct.pack("!BH", STRING, len(text)) + text


def _text(blocks: Sequence[Any]) -> str:
    return "\n".join(block["text"] for block in blocks if "text" in block)


def _result(told: Any) -> Result:
    parts = told["content"]
    return Result(_text(parts), told.get("status") == "error", sum("image" in part for part in parts))
