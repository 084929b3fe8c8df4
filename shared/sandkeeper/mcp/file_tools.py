"""Tools that tell of files: those that a chat has, and those that its runs have made."""

import base64
from datetime import timedelta
from pathlib import PurePosixPath

from mcp_types import (
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from sandkeeper.errors import FileNotFound
from sandkeeper.http.schemas import FileSchema
from sandkeeper.mcp.arguments import Nothing, OfArtifact, OfFile
from sandkeeper.mcp.call import Call
from sandkeeper.mcp.content import IMAGE_TYPES, told
from sandkeeper.model import Artifact, FileRecord
from sandkeeper.outputs import size_text
from sandkeeper.services.briefing import files_told

LIST_CHARS = 8_000
METADATA_CHARS = 20_000
MOST_ARTIFACTS = 100
EMBED_BYTES = 500_000
"""Larger artifacts are linked to: in base64 these stay below what clients take of one event."""
DOWNLOAD_WITHIN = timedelta(minutes=15)


def list_files(call: Call, _: Nothing) -> CallToolResult:
    """Returns the chat's files, a line for each."""
    return told(files_told(call.wiring.files.of_chat(call.key), LIST_CHARS))


def file_metadata(call: Call, asked: OfFile) -> CallToolResult:
    """Returns all that is known of a file, as JSON; with less of it where that would be too much."""
    record = _found(call, asked.file)
    whole = FileSchema.of(record)
    for without in (None, {"tables": {"__all__": {"sample"}}}):
        text = whole.model_dump_json(by_alias=True, indent=1, exclude=without)
        if len(text) <= METADATA_CHARS:
            return told(text)
    return told(files_told([record], METADATA_CHARS))


def _found(call: Call, wanted: str) -> FileRecord:
    for record in call.wiring.files.of_chat(call.key):
        if wanted in (record.file_id, record.name, record.path):
            return record
    raise FileNotFound(f"chat {call.key.chat_id!r} has no file {wanted[:200]!r}; list_files tells what there is")


def list_artifacts(call: Call, _: Nothing) -> CallToolResult:
    """Returns the latest of the files that the chat's runs have made, a line for each."""
    found = call.wiring.artifacts.of_chat(call.key)
    lines = [
        f"- {artifact.artifact_id}: {artifact.path}, version {version}, {artifact.mime_type},"
        f" {size_text(artifact.size_bytes)}"
        for artifact, version in found[:MOST_ARTIFACTS]
    ]
    if len(found) > MOST_ARTIFACTS:
        lines.append(f"- and {len(found) - MOST_ARTIFACTS} of earlier runs")
    return told("\n".join(lines) or "No run has left a file behind.")


def get_artifact(call: Call, asked: OfArtifact) -> CallToolResult:
    """Returns a file that a run has made: itself if it is small, and where to download it."""
    artifact = call.wiring.executions.artifact(call.key, asked.artifact_id)
    url = call.wiring.artifacts.url(artifact, lasts=DOWNLOAD_WITHIN)
    link = ResourceLink(
        name=PurePosixPath(artifact.path).name,
        uri=url,
        mime_type=artifact.mime_type,
        size=artifact.size_bytes,
        description="The content, byte for byte, to whoever has this URL within 15 minutes.",
    )
    if artifact.size_bytes > EMBED_BYTES:
        text = f"{size_text(artifact.size_bytes)} are too large for a result: download it, or read it with code."
        return CallToolResult(content=[TextContent(text=text), link])
    return CallToolResult(content=[_embedded(artifact, call.wiring.artifacts.content(artifact)), link])


def _embedded(artifact: Artifact, content: bytes) -> ContentBlock:
    """Returns the content as an image where it is one, as text where it is that, else as it is."""
    in_base64 = base64.b64encode(content).decode()
    if artifact.mime_type in IMAGE_TYPES:
        return ImageContent(data=in_base64, mime_type=artifact.mime_type)
    uri = f"sandkeeper:///artifacts/{artifact.artifact_id}"
    if _is_text(artifact.mime_type):
        try:
            text = content.decode()
        except UnicodeDecodeError:
            pass
        else:
            return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=artifact.mime_type, text=text))
    return EmbeddedResource(resource=BlobResourceContents(uri=uri, mime_type=artifact.mime_type, blob=in_base64))


def _is_text(mime_type: str) -> bool:
    return mime_type.startswith("text/") or mime_type.endswith(("json", "jsonl", "xml", "yaml"))
