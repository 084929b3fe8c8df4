"""OpenAI's Chat Completions API."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, assert_never

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

from examples.chat.models import (
    MOST_TOKENS,
    Answered,
    Asked,
    Dialect,
    Heard,
    Listening,
    Message,
    Tool,
    Turn,
    ended,
    mapped,
)

MAKER = "OpenAI"
REFUSED = (401, 403)
PICTURES = "The pictures that the code has shown, in their order:"


class OpenAIModel:
    """A model that is asked over OpenAI's API, at its own address unless another is given."""

    dialect: ClassVar[Dialect] = "openai"

    def __init__(self, model: str, api_key: str, base_url: str | None = None) -> None:
        self._model = model
        self._client = openai.OpenAI(api_key=api_key, base_url=base_url)

    def reply(self, system: str, messages: Sequence[Message], tools: Sequence[Tool], on_text: Heard) -> Turn:
        """Returns the model's turn; `on_text` hears what it says, as it does. Raises `ModelFailed`."""
        told: Any = [{"role": "system", "content": system}, *(each for one in messages for each in _messages(one))]
        offered: Any = [*tools]
        with (
            mapped(MAKER, _described, openai.OpenAIError, httpx2.HTTPError),
            self._client.chat.completions.create(
                model=self._model,
                max_completion_tokens=MOST_TOKENS,
                messages=told,
                tools=offered,
                stream=True,
            ) as stream,
        ):
            return _turn(stream, on_text)

    def close(self) -> None:
        """See `Model.close`."""
        self._client.close()


def _turn(stream: Iterable[ChatCompletionChunk], on_text: Heard) -> Turn:
    """Returns the turn that the chunks tell."""
    heard = Listening(on_text)
    reason: str | None = None
    for chunk in stream:
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            if choice.delta.content:
                heard.text(choice.delta.content)
            if choice.delta.refusal:
                heard.text(choice.delta.refusal)
            for call in choice.delta.tool_calls or ():
                heard.call(call.index, call.id, call.function.name if call.function else None)
                heard.arguments(call.index, (call.function and call.function.arguments) or "")
    ended(MAKER, reason, "stop", "tool_calls")
    return heard.turn()


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    match message:
        case Asked(text):
            yield {"role": "user", "content": text}
        case Turn(text=text, calls=calls):
            made = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
            yield {"role": "assistant", "content": text or None, **({"tool_calls": made} if made else {})}
        case Answered(results):
            for result in results:
                yield {"role": "tool", "tool_call_id": result.call.id, "content": result.text}
            if more := [*_beside(message)]:
                yield {"role": "user", "content": more}
        case _:
            assert_never(message)


def _beside(answered: Answered) -> Iterator[dict[str, Any]]:
    """Yields what a tool's message cannot hold, which is text alone: pictures, and the note."""
    images = [image for result in answered.results for image in result.images]
    if images:
        yield {"type": "text", "text": PICTURES}
    for image in images:
        url = f"data:{image.mime_type};base64,{base64.b64encode(image.data).decode()}"
        yield {"type": "image_url", "image_url": {"url": url}}
    if answered.note:
        yield {"type": "text", "text": answered.note}


def _described(error: Exception) -> str:
    """Returns what went wrong, without what the maker says of a key."""
    if isinstance(error, openai.APIStatusError):
        if error.status_code in REFUSED:
            return f"{error.status_code}: the key in OPENAI_API_KEY is refused"
        told = error.body.get("message") if isinstance(error.body, dict) else None
        return f"{error.status_code}: {told or error.message}"
    return str(error) or type(error).__name__
