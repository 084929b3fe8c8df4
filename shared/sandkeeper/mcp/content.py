"""What comes of tools, as models read it: bounded text, and images as images.

A whole result stays below 1 MiB, which is what clients take of one event.
"""

from collections.abc import Sequence

from mcp_types import CallToolResult, ContentBlock, ImageContent, TextContent

from sandkeeper.errors import SandkeeperError
from sandkeeper.http.error_details import what_came_of
from sandkeeper.http.problems import STATUS_AND_SLUG
from sandkeeper.http.views import for_a_model
from sandkeeper.model import ArtifactStatus, Output
from sandkeeper.outputs import simple_view
from sandkeeper.runs import Execution

MAX_IMAGES = 8
IMAGE_CHARS = 700_000
"""How much base64 the images of one result have in all."""
IMAGE_TYPES = ("image/png", "image/jpeg")
"""What models take as an image; others are told as text."""
MAX_ARTIFACTS = 20


def told(text: str, *, is_error: bool = False) -> CallToolResult:
    """Returns a result that is text."""
    return CallToolResult(content=[TextContent(text=text)], is_error=is_error)


def refused(error: SandkeeperError) -> CallToolResult:
    """Returns what a tool says that did nothing: what is wrong, and whether to try again."""
    again = "" if error.retry_after_s is None else f" Try again in {error.retry_after_s} s."
    return told(f"{STATUS_AND_SLUG[type(error)][1]}: {error.detail}.{again}", is_error=True)


def came_of(execution: Execution) -> CallToolResult:
    """Returns what came of a run; of one that goes on, how to go on waiting for it."""
    if execution.end is None:
        return told(
            f"The run goes on as execution {execution.execution_id}. Call wait_for_run with that executionId for"
            f" what comes of it, or stop_run to stop it. It may run for {execution.context.limit_ms:,} ms."
        )
    outputs, detail = what_came_of(execution)
    content: list[ContentBlock] = [TextContent(text=for_a_model(execution)), *_images(outputs)]
    content.append(TextContent(text=_trace(execution)))
    return CallToolResult(content=content, is_error=detail is not None)


def _images(outputs: Sequence[Output]) -> Sequence[ContentBlock]:
    found = [item for item in simple_view(outputs) if item.mime_type in IMAGE_TYPES]
    shown, left = list[ContentBlock](), IMAGE_CHARS
    for item in found:
        data = "".join(str(item.content).split())
        if len(shown) < MAX_IMAGES and len(data) <= left:
            left -= len(data)
            shown.append(ImageContent(data=data, mime_type=item.mime_type))
    if len(found) > len(shown):
        others = len(found) - len(shown)
        shown.append(
            TextContent(
                text=f"({others} of {len(found)} images left out: a result has room for {MAX_IMAGES}, and for"
                f" {IMAGE_CHARS:,} characters of them. Draw smaller, or save them to files.)"
            )
        )
    return shown


def _trace(execution: Execution) -> str:
    """Returns by which ids the run and its files are known."""
    stored = [artifact for artifact in execution.artifacts if artifact.status is ArtifactStatus.STORED]
    files = ", ".join(f"{artifact.artifact_id} = {artifact.path}" for artifact in stored[:MAX_ARTIFACTS])
    return f"(execution {execution.execution_id}{'; get_artifact has: ' + files if files else ''})"
