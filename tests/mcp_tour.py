"""A client of the Model Context Protocol that uses every tool and prompt, with each value that it may choose."""

import json
import re
from typing import Any

from mcp import Client
from mcp_types import CallToolResult

from sandkeeper.mcp.tools import TOOLS
from sandkeeper.prompts import PROMPTS
from tests.mcp_client import text_of
from tests.tour import NEVER, Choices


class McpTour:
    """One chat's life, on a connection on which every call names its chat."""

    def __init__(self, client: Client, choices: Choices) -> None:
        self._client = client
        self._choices = choices
        self.called: dict[str, list[CallToolResult]] = {}
        """What came of each tool."""

    def untouched(self) -> set[str]:
        """Returns the tools that have not been called."""
        return set(TOOLS) - self.called.keys()

    async def __call__(self) -> None:
        """Calls every tool at least once, and asks for every prompt; results may be errors."""
        code, file = self._choices.code, self._choices.file_name
        await self._client.list_tools()
        await self._call("describe_sandbox")
        ran = await self._call("run_python", code=code)
        run_id = _found(r"execution ([0-9A-Z]{26})", ran)
        await self._call("wait_for_run", executionId=run_id)
        await self._call("stop_run", executionId=run_id)
        await self._call("list_files")
        await self._call("file_metadata", file=file)
        await self._call("list_artifacts")
        await self._call("get_artifact", artifactId=f"{run_id}-0")
        await self._notebook(code)
        await self._call("list_notebooks")
        await self._prompts(code, file, run_id)
        for what in ("variables", "everything"):
            await self._call("reset", what=what)

    async def _notebook(self, code: str) -> None:
        title = self._choices.title
        made = await self._call("create_notebook", title=title, cells=[{"source": code}])
        try:
            notebook = json.loads(text_of(made))
        except ValueError:  # it was refused
            notebook = {"notebookId": NEVER, "version": 1}
        one = {"notebookId": notebook["notebookId"]}
        await self._call("read_notebook", **one)
        cells = [{"source": code, "cellId": "tour"}]
        await self._call("update_notebook", **one, version=notebook["version"], title=title, cells=cells)
        await self._call("run_notebook", **one, cellId="tour")
        await self._call("run_notebook", **one)

    async def _prompts(self, code: str, file: str, run_id: str) -> None:
        given = {"request": code, "file": file, "executionId": run_id}
        for prompt in PROMPTS.values():
            arguments = {each.name: given[each.name] for each in prompt.arguments if each.name in given}
            await self._client.get_prompt(prompt.name, {"chatId": self._choices.chat, **arguments})

    async def _call(self, tool: str, **arguments: Any) -> CallToolResult:
        result = await self._client.call_tool(tool, {"chatId": self._choices.chat, **arguments})
        self.called.setdefault(tool, []).append(result)
        return result


def _found(pattern: str, result: CallToolResult) -> str:
    found = re.search(pattern, text_of(result))
    return NEVER if found is None else found[1]
