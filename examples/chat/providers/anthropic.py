"""Anthropic's Messages API."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, assert_never

import anthropic
import httpx2
from anthropic.types import RawMessageStreamEvent

from examples.chat.models import (
    MOST_TOKENS,
    Answered,
    Asked,
    Dialect,
    Heard,
    Listening,
    Message,
    Tool,
    ToolResult,
    Turn,
    ended,
    mapped,
)

MAKER = "Anthropic"
REFUSED = (401, 403)


class AnthropicModel:
    """A model that is asked over Anthropic's API, at its own address unless another is given."""

    dialect: ClassVar[Dialect] = "anthropic"

    def __init__(self, model: str, api_key: str, base_url: str | None = None) -> None:
        self._model = model
        self._client = anthropic.Anthropic(api_key=api_key, base_url=base_url)

    def reply(self, system: str, messages: Sequence[Message], tools: Sequence[Tool], on_text: Heard) -> Turn:
        """Returns the model's turn; `on_text` hears what it says, as it does. Raises `ModelFailed`."""
        told: Any = [*map(_message, messages)]
        offered: Any = [*tools]
        with (
            mapped(MAKER, _described, anthropic.AnthropicError, httpx2.HTTPError),
            self._client.messages.create(
                model=self._model,
                max_tokens=MOST_TOKENS,
                system=system,
                messages=told,
                tools=offered,
                stream=True,
            ) as stream,
        ):
            return _turn(stream, on_text)

    def close(self) -> None:
        """See `Model.close`."""
        self._client.close()


def _turn(stream: Iterable[RawMessageStreamEvent], on_text: Heard) -> Turn:
    """Returns the turn that the events tell."""
    heard = Listening(on_text)
    blocks: dict[int, dict[str, Any]] = {}
    reason: str | None = None
    is_over = False
    for event in stream:
        match event.type:
            case "content_block_start":
                block = event.content_block
                blocks[event.index] = block.model_dump(exclude_none=True)
                if block.type == "tool_use":
                    heard.call(event.index, block.id, block.name)
                if block.type == "text" and block.text:
                    heard.text(block.text)
            case "content_block_delta":
                _grown(blocks[event.index], event.index, event.delta, heard)
            case "message_delta":
                reason = event.delta.stop_reason
            case "message_stop":
                is_over = True
            case _:
                pass
    ended(MAKER, reason if is_over else None, "end_turn", "tool_use", "stop_sequence")
    for index, calling in heard.calls.items():
        blocks[index]["input"] = calling.made().inputs_or_none()
    return heard.turn([block for _, block in sorted(blocks.items()) if block.get("text", "-").strip()])


def _grown(block: dict[str, Any], index: int, delta: Any, heard: Listening) -> None:
    """Adds what has come to its block. Citations are for documents, of which there are none."""
    match delta.type:
        case "text_delta":
            block["text"] += heard.text(delta.text)
        case "input_json_delta":
            heard.arguments(index, delta.partial_json)
        case "thinking_delta":
            block["thinking"] += delta.thinking
        case "signature_delta":
            block["signature"] = delta.signature
        case _:
            pass


def _message(message: Message) -> dict[str, Any]:
    match message:
        case Asked(text):
            return {"role": "user", "content": text}
        case Turn():
            return {"role": "assistant", "content": [*message.blocks]}
        case Answered(results, note):
            notes = [{"type": "text", "text": note}] if note else []
            return {"role": "user", "content": [*map(_result, results), *notes]}
        case _:
            assert_never(message)


def _result(result: ToolResult) -> dict[str, Any]:
    content = [{"type": "text", "text": result.text}, *_images(result)]
    return {
        "type": "tool_result",
        "tool_use_id": result.call.id,
        "content": content,
        "is_error": result.is_error,
    }


def _images(result: ToolResult) -> Iterator[dict[str, Any]]:
    for image in result.images:
        data = base64.b64encode(image.data).decode()
        yield {"type": "image", "source": {"type": "base64", "media_type": image.mime_type, "data": data}}


def _described(error: Exception) -> str:
    """Returns what went wrong, without what the maker says of a key."""
    if isinstance(error, anthropic.APIStatusError):
        if error.status_code in REFUSED:
            return f"{error.status_code}: the key in ANTHROPIC_API_KEY is refused"
        return f"{error.status_code}: {error.api_message or error.message}"
    return str(error) or type(error).__name__
