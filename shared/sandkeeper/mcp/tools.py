"""All tools, as clients list them. Where the connection names its chat, no tool asks for one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from mcp_types import CallToolResult, Tool, ToolAnnotations
from pydantic import ValidationError

from sandkeeper.errors import FieldProblem, InvalidRequest
from sandkeeper.http.schemas import Wire
from sandkeeper.http.tools import DESCRIPTION, NAME
from sandkeeper.mcp import arguments, file_tools, notebook_tools, run_tools
from sandkeeper.mcp.call import Call
from sandkeeper.model import CHAT_ID_PATTERN

A = TypeVar("A", bound=Wire)

CHAT = "chatId"
CHAT_SCHEMA: Mapping[str, Any] = {
    "type": "string",
    "pattern": CHAT_ID_PATTERN,
    "description": "Names the chat, and with it the sandbox. Keep to one name for one conversation.",
}
VALUE_CHARS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTool(Generic[A]):
    """A tool that works in one chat."""

    name: str
    description: str
    arguments: type[A]
    do: Callable[[Call, A], CallToolResult]
    reads: bool = False
    """It changes nothing."""
    destroys: bool = False
    """It may take away what cannot be had again."""

    def described(self, *, with_chat: bool) -> Tool:
        """Returns the tool as clients list it."""
        return Tool(
            name=self.name,
            description=self.description,
            input_schema=_schema(self.arguments, with_chat=with_chat),
            annotations=ToolAnnotations(
                read_only_hint=self.reads,
                destructive_hint=self.destroys,
                idempotent_hint=self.reads,
                open_world_hint=self.name == NAME,
            ),
        )

    def parsed(self, given: Mapping[str, Any]) -> A:
        """Returns the arguments. Raises `InvalidRequest`, which names all that are wrong."""
        try:
            return self.arguments.model_validate(given)
        except ValidationError as error:
            problems = [_problem(each) for each in error.errors()]
            wrong = "; ".join(f"{problem.pointer}: {problem.detail}" for problem in problems[:5])
            raise InvalidRequest(f"the arguments of {self.name} are not valid: {wrong}", problems) from error


def _problem(each: Mapping[str, Any]) -> FieldProblem:
    """Returns what is wrong with an argument, and with which value: cut short, for it may be a whole program."""
    pointer = "/".join(str(part)[:VALUE_CHARS] for part in each["loc"])
    if each["type"] == "missing" or isinstance(each["input"], dict):
        return FieldProblem(pointer, each["msg"])
    shown = repr(each["input"])
    return FieldProblem(
        pointer, f"{each['msg']}, not {shown if len(shown) <= VALUE_CHARS else shown[: VALUE_CHARS - 3] + '...'}"
    )


@cache
def _schema(model: type[Wire], *, with_chat: bool) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    chat = {CHAT: dict(CHAT_SCHEMA)} if with_chat else {}
    required = [*chat, *schema.get("required", [])]
    own = {name: value for name, value in schema.items() if name not in ("title", "description")}
    return {**own, "properties": {**chat, **schema.get("properties", {})}, "required": required}


TOOLS: Mapping[str, ChatTool[Any]] = {
    tool.name: tool
    for tool in (
        ChatTool(
            name="describe_sandbox",
            description="Tells what code finds in the chat's sandbox: files with their columns, packages, limits,"
            " and whether variables of earlier calls are there. Makes and wakes no sandbox.",
            arguments=arguments.Nothing,
            do=run_tools.describe_sandbox,
            reads=True,
        ),
        ChatTool(
            name=NAME,
            description=f"{DESCRIPTION} Plots come as images. Code that runs for long is answered with an"
            " executionId for wait_for_run.",
            arguments=arguments.RunPython,
            do=run_tools.run_python,
            destroys=True,
        ),
        ChatTool(
            name="wait_for_run",
            description="Goes on waiting for a run, and returns what came of it; if it still runs, call it again.",
            arguments=arguments.OfRun,
            do=run_tools.wait_for_run,
            reads=True,
        ),
        ChatTool(
            name="stop_run",
            description="Stops a run, and returns what it has put out. Variables stay.",
            arguments=arguments.OfRun,
            do=run_tools.stop_run,
        ),
        ChatTool(
            name="reset",
            description="Gives the chat a fresh kernel, or a fresh sandbox.",
            arguments=arguments.Reset,
            do=run_tools.reset,
            destroys=True,
        ),
        ChatTool(
            name="list_files",
            description="Lists the files that were uploaded to the chat, with their tables and columns.",
            arguments=arguments.Nothing,
            do=file_tools.list_files,
            reads=True,
        ),
        ChatTool(
            name="file_metadata",
            description="Tells what is known of a file: kind, size, encoding, and of its tables columns, types,"
            " rows and the first of these.",
            arguments=arguments.OfFile,
            do=file_tools.file_metadata,
            reads=True,
        ),
        ChatTool(
            name="list_artifacts",
            description="Lists the files that code has made in the chat, also when its sandbox is gone.",
            arguments=arguments.Nothing,
            do=file_tools.list_artifacts,
            reads=True,
        ),
        ChatTool(
            name="get_artifact",
            description="Fetches a file that code has made: itself if it is small, and a link to download it.",
            arguments=arguments.OfArtifact,
            do=file_tools.get_artifact,
            reads=True,
        ),
        ChatTool(
            name="list_notebooks",
            description="Lists the chat's notebooks.",
            arguments=arguments.Nothing,
            do=notebook_tools.list_notebooks,
            reads=True,
        ),
        ChatTool(
            name="read_notebook",
            description="Reads a notebook: its version, and its cells with their sources.",
            arguments=arguments.OfNotebook,
            do=notebook_tools.read_notebook,
        ),
        ChatTool(
            name="create_notebook",
            description="Makes a notebook of these cells. It does not run them.",
            arguments=arguments.CreateNotebook,
            do=notebook_tools.create_notebook,
        ),
        ChatTool(
            name="update_notebook",
            description="Gives a notebook exactly these cells, if it still is at the version that you have read.",
            arguments=arguments.UpdateNotebook,
            do=notebook_tools.update_notebook,
            destroys=True,
        ),
        ChatTool(
            name="run_notebook",
            description="Runs a cell of a notebook in the chat's session, or all cells up to the first that fails;"
            " the notebook then shows what came of it.",
            arguments=arguments.RunNotebook,
            do=notebook_tools.run_notebook,
            destroys=True,
        ),
    )
}
