"""The Model Context Protocol on the running stack, through its official client over HTTP."""

import base64
import json
import re
import uuid
from typing import Any

import httpx
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import EmbeddedResource, ResourceLink, TextContent, TextResourceContents

from sandkeeper.mcp.tools import TOOLS
from sandkeeper.prompts import PROMPTS
from tests.mcp_client import ERAS, Connection, Era, images_of, text_of
from tests.stack import RunningStack

PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()"
WRITE = "open('out.bin', 'wb').write(bytes(range(256)))\nopen('out.csv', 'w').write('a,ž\\n1,2\\n')"


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> Era:
    """Which version of the protocol the client speaks."""
    era: Era = request.param
    return era


@pytest.fixture
def mcp(stack: RunningStack) -> Connection:
    """A connection that is about one chat, which no other test uses."""
    return Connection(f"{stack.api_url}/mcp?chatId=mcp-{uuid.uuid4().hex}", stack.api_key)


def test_every_version_of_the_protocol_lists_runs_and_remembers(stack: RunningStack, era: Era) -> None:
    chat = f"mcp-{uuid.uuid4().hex}"

    async def talk(client: Any) -> tuple[list[str], list[str], str]:
        tools, prompts = await client.list_tools(), await client.list_prompts()
        await client.call_tool("run_python", {"chatId": chat, "code": "x = 6 * 7"})
        answer = await client.call_tool("run_python", {"chatId": chat, "code": "print(x)"})
        return [tool.name for tool in tools.tools], [prompt.name for prompt in prompts.prompts], text_of(answer)

    tools, prompts, answer = Connection(f"{stack.api_url}/mcp", stack.api_key, era=era).ask(talk)

    assert (tools, prompts) == (list(TOOLS), list(PROMPTS))
    assert answer.startswith("stdout:\n42")


def test_the_chat_is_that_of_the_api(stack: RunningStack, mcp: Connection) -> None:
    chat = mcp.url.partition("chatId=")[2]
    with stack.client() as client:
        client.post("/api/jupyter/execute", json={"chatId": chat, "code": "x = 'of the API'"}).raise_for_status()

    assert "of the API" in text_of(mcp.call("run_python", code="print(x)"))


def test_a_plot_comes_as_an_image(mcp: Connection) -> None:
    (image,) = images_of(mcp.call("run_python", code=PLOT))

    assert image.mime_type == "image/png"
    assert base64.b64decode(image.data).startswith(b"\x89PNG\r\n\x1a\n")


def test_artifacts_are_fetched_byte_for_byte(mcp: Connection) -> None:
    ran = text_of(mcp.call("run_python", code=WRITE))
    listed = text_of(mcp.call("list_artifacts"))

    for name, content in (("out.bin", bytes(range(256))), ("out.csv", "a,ž\n1,2\n".encode())):
        (artifact_id,) = set(re.findall(rf"(\S+-\d+) = /home/user/{name}", ran))
        assert f"- {artifact_id}: /home/user/{name}, version 1" in listed
        embedded, link = mcp.call("get_artifact", artifactId=artifact_id).content
        assert isinstance(embedded, EmbeddedResource)
        assert isinstance(link, ResourceLink)
        if isinstance(embedded.resource, TextResourceContents):
            assert embedded.resource.text.encode() == content
        else:
            assert base64.b64decode(embedded.resource.blob) == content
        assert httpx.get(link.uri, trust_env=False).raise_for_status().content == content


def test_progress_streams_until_a_run_ends_that_outlasts_a_call(mcp: Connection) -> None:
    """27 s are longer than any call behind the gateway waits."""
    heard: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    code = (
        "import time\nfor step in range(27):\n    print('step', step, flush=True)\n    time.sleep(1)\nprint('done')"
    )
    result = mcp.ask(
        lambda client: client.call_tool(
            "run_python", {"code": code, "timeoutMs": 120_000}, progress_callback=hear, read_timeout_seconds=90
        )
    )

    assert not result.is_error
    assert "done" in text_of(result)
    assert any(re.fullmatch(r"step \d+", message or "") for _, message in heard)


def test_a_run_that_goes_on_is_waited_for_and_stopped(mcp: Connection) -> None:
    slow = "import time\nprint('begun', flush=True)\ntime.sleep(600)"
    went_on = mcp.call("run_python", code=slow, timeoutMs=900_000)
    (run_id,) = re.findall(r"execution ([0-9A-Z]{26})", text_of(went_on))
    assert not went_on.is_error

    stopped = mcp.call("stop_run", executionId=run_id)

    assert "begun" in text_of(stopped)
    assert "the code was stopped" in text_of(stopped)
    assert text_of(mcp.call("wait_for_run", executionId=run_id)) == text_of(stopped)


def test_reset_takes_variables_and_then_the_sandbox(mcp: Connection) -> None:
    mcp.call("run_python", code="x = 1\nopen('kept.txt', 'w').write('kept')")

    mcp.call("reset")
    told = text_of(mcp.call("run_python", code="print(open('kept.txt').read(), 'x' in globals())"))
    assert "kept False" in told
    assert "variables of earlier calls are gone" in told

    mcp.call("reset", what="everything")
    assert "False" in text_of(mcp.call("run_python", code="import os\nprint(os.path.exists('kept.txt'))"))


def test_a_notebook_is_made_changed_and_run(mcp: Connection) -> None:
    made = json.loads(text_of(mcp.call("create_notebook", title="N", cells=[{"source": "x = 20"}])))
    cells = [{"cellId": made["cells"][0]["cellId"]}, {"source": "print(x + 22)"}]
    changed = json.loads(
        text_of(mcp.call("update_notebook", notebookId=made["notebookId"], version=made["version"], cells=cells))
    )

    ran = json.loads(text_of(mcp.call("run_notebook", notebookId=made["notebookId"])))

    assert [cell["source"] for cell in changed["cells"]] == ["x = 20", "print(x + 22)"]
    assert [cell["state"] for cell in ran["cells"]] == ["succeeded"] * 2
    assert "42" in text_of(mcp.call("wait_for_run", executionId=ran["cells"][1]["executionId"]))


def test_a_prompt_has_what_the_chat_has(mcp: Connection) -> None:
    mcp.call("run_python", code="raise KeyError('Salery')")

    (message,) = mcp.ask(lambda client: client.get_prompt("error-recovery")).messages

    assert isinstance(message.content, TextContent)
    assert "KeyError: 'Salery'" in message.content.text


def test_wrong_tokens_unknown_tools_and_huge_arguments_are_refused(stack: RunningStack, mcp: Connection) -> None:
    for token in ("sk_wrong", "a.b.c"):
        reply = httpx.post(mcp.url, json={}, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
    with pytest.raises(MCPError, match="there is no tool 'rm'"):
        mcp.call("rm")
    huge = mcp.call("run_python", code="#" * 50_001)
    assert huge.is_error
    assert "at most 50000 characters" in text_of(huge)
    headers = {"Authorization": f"Bearer {stack.api_key}", "Content-Type": "application/json"}
    assert httpx.post(mcp.url, content=b" " * 1_000_001, headers=headers, trust_env=False).status_code == 413


def test_pages_from_elsewhere_and_other_methods_are_refused(stack: RunningStack, mcp: Connection) -> None:
    headers = {"Authorization": f"Bearer {stack.api_key}", "Origin": "https://evil.example"}
    assert httpx.post(mcp.url, json={}, headers=headers, trust_env=False).status_code == 403
    for method in ("GET", "DELETE"):
        assert httpx.request(method, mcp.url, trust_env=False).status_code == 405
