"""Amazon Bedrock's Converse API."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, assert_never

import boto3
from botocore.config import Config
from botocore.eventstream import ParserError
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from urllib3.exceptions import HTTPError

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

MAKER = "Bedrock"
FOREIGN = (BotoCoreError, ClientError, HTTPClientError, HTTPError, ParserError)
WITHIN_S = 300
"""How long a model may think before it says anything."""


def has_credentials() -> bool:
    """Whether boto3 finds any, where it looks for them: the environment, profiles, the machine's role."""
    return boto3.Session().get_credentials() is not None


class BedrockModel:
    """A model that is asked over Bedrock, with the credentials that boto3 finds unless others are given."""

    dialect: ClassVar[Dialect] = "bedrock"

    def __init__(self, model: str, region: str, base_url: str | None = None, **credentials: str) -> None:
        self._model = model
        self._client = boto3.client(
            "bedrock-runtime",
            region_name=region,
            endpoint_url=base_url,
            config=Config(read_timeout=WITHIN_S, retries={"mode": "standard", "total_max_attempts": 3}),
            **credentials,
        )

    def reply(self, system: str, messages: Sequence[Message], tools: Sequence[Tool], on_text: Heard) -> Turn:
        """Returns the model's turn; `on_text` hears what it says, as it does. Raises `ModelFailed`."""
        with mapped(MAKER, _described, *FOREIGN):
            reply = self._client.converse_stream(
                modelId=self._model,
                system=[{"text": system}],
                messages=[*map(_message, messages)],
                toolConfig={"tools": [*tools]},
                inferenceConfig={"maxTokens": MOST_TOKENS},
            )
            try:
                return _turn(reply["stream"], on_text)
            finally:
                reply["stream"].close()

    def close(self) -> None:
        """See `Model.close`."""
        self._client.close()


def _turn(stream: Iterable[dict[str, Any]], on_text: Heard) -> Turn:
    """Returns the turn that the events tell."""
    heard = Listening(on_text)
    blocks: dict[int, dict[str, Any]] = {}
    reason: str | None = None
    for event in stream:
        if start := event.get("contentBlockStart"):
            index, used = start["contentBlockIndex"], start["start"].get("toolUse")
            if used:
                blocks[index] = {"toolUse": {"toolUseId": used["toolUseId"], "name": used["name"]}}
                heard.call(index, used["toolUseId"], used["name"])
        if delta := event.get("contentBlockDelta"):
            index = delta["contentBlockIndex"]
            _grown(blocks.setdefault(index, {}), index, delta["delta"], heard)
        if stop := event.get("messageStop"):
            reason = stop["stopReason"]
    ended(MAKER, reason, "end_turn", "tool_use", "stop_sequence")
    for index, calling in heard.calls.items():
        blocks[index]["toolUse"]["input"] = calling.made().inputs_or_none()
    return heard.turn([block for _, block in sorted(blocks.items()) if block.get("text", "-").strip()])


def _grown(block: dict[str, Any], index: int, delta: dict[str, Any], heard: Listening) -> None:
    """Adds what has come to its block."""
    match delta:
        case {"text": piece}:
            block["text"] = block.get("text", "") + heard.text(piece)
        case {"toolUse": {"input": piece}}:
            heard.arguments(index, piece)
        case {"reasoningContent": {"redactedContent": redacted}}:
            block["reasoningContent"] = {"redactedContent": redacted}
        case {"reasoningContent": piece}:
            told = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
            told["text"] += piece.get("text", "")
            told |= {"signature": piece["signature"]} if "signature" in piece else {}
        case _:
            pass


def _message(message: Message) -> dict[str, Any]:
    match message:
        case Asked(text):
            return {"role": "user", "content": [{"text": text}]}
        case Turn():
            return {"role": "assistant", "content": [*message.blocks]}
        case Answered(results, note):
            return {"role": "user", "content": [*map(_result, results), *([{"text": note}] if note else [])]}
        case _:
            assert_never(message)


def _result(result: ToolResult) -> dict[str, Any]:
    status = "error" if result.is_error else "success"
    content = [{"text": result.text}, *_images(result)]
    return {"toolResult": {"toolUseId": result.call.id, "content": content, "status": status}}


def _images(result: ToolResult) -> Iterator[dict[str, Any]]:
    for image in result.images:
        yield {"image": {"format": image.mime_type.removeprefix("image/"), "source": {"bytes": image.data}}}


def _described(error: Exception) -> str:
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        told = error.response.get("Error", {})
        return f"{status} {told.get('Code', '')}: {told.get('Message', '')}".strip()
    return str(error) or type(error).__name__
