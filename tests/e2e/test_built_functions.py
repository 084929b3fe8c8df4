"""The functions as `sam build` makes them, under the runtime interface emulator, against the local stack."""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest

from layers.build import AWS_SERVICES
from local.project import ROOT
from tests.lambda_runtime import Built, FunctionError, RunningFunction, running, sam_build
from tests.stack import RunningStack

pytestmark = pytest.mark.timeout(300)


def event(name: str) -> dict[str, Any]:
    """Returns `events/<name>.json`."""
    content: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text())
    return content


@pytest.fixture(scope="module")
def built() -> Iterator[Built]:
    """All layers and functions, built once."""
    with tempfile.TemporaryDirectory(prefix="sk-build-") as folder:
        yield sam_build(Path(folder))


@pytest.fixture(scope="module")
def api(built: Built, stack: RunningStack) -> Iterator[RunningFunction]:
    """The API function, running."""
    with running(built, "ApiFunction", built.settings("ApiFunction", stack.environment)) as function:
        yield function


@pytest.fixture(scope="module")
def mcp(built: Built, stack: RunningStack) -> Iterator[RunningFunction]:
    """The MCP function, running."""
    with running(built, "McpFunction", built.settings("McpFunction", stack.environment)) as function:
        yield function


@pytest.fixture(scope="module")
def cleanup(built: Built, stack: RunningStack) -> Iterator[RunningFunction]:
    """The cleanup function, running."""
    with running(built, "CleanupFunction", built.settings("CleanupFunction", stack.environment)) as function:
        yield function


def call(api: RunningFunction, event: dict[str, Any]) -> tuple[int, Any]:
    """Returns the status and the JSON body of the API's answer to the gateway's event."""
    answer = api.invoke(event)
    assert not answer["isBase64Encoded"], "JSON must not be base64-encoded"
    return answer["statusCode"], json.loads(answer["body"]) if answer.get("body") else None


def test_every_event_of_the_repository_is_sent_here() -> None:
    sent = set(re.findall(r'event\("([a-z0-9-]+)"\)', Path(__file__).read_text()))
    assert sent == {file.stem for file in (ROOT / "events").glob("*.json")} - {"env"}


def test_health_is_answered_without_a_token(api: RunningFunction) -> None:
    status, body = call(api, event("health"))
    assert (status, body["status"]) == (200, "ok")


def test_a_call_without_a_token_is_refused(api: RunningFunction) -> None:
    stranger = event("execute")
    del stranger["headers"]["authorization"]
    status, body = call(api, stranger)
    assert (status, body["status"]) == (401, 401)


def test_a_chat_runs_code_keeps_its_session_and_closes_it(api: RunningFunction) -> None:
    status, ran = call(api, event("execute"))
    assert (status, ran["success"]) == (200, True), ran
    assert [result["content"] for result in ran["results"]] == ["42\n"]

    status, found = call(api, event("status"))
    assert (status, found["exists"], found["sandboxId"]) == (200, True, ran["sandboxId"])

    assert call(api, event("close")) == (204, None)
    assert call(api, event("status"))[1]["exists"] is False


def test_a_tool_is_called_and_its_chat_is_that_of_the_api(mcp: RunningFunction, api: RunningFunction) -> None:
    status, answer = call(mcp, event("mcp"))
    assert status == 200, answer
    assert answer["result"]["content"][0]["text"] == "stdout:\n42"
    assert call(api, event("status"))[1]["exists"] is True

    stranger = event("mcp")
    del stranger["headers"]["authorization"]
    assert call(mcp, stranger)[0] == 401
    assert call(api, event("close")) == (204, None)


def test_a_tick_leaves_live_sessions_and_the_forced_cleanup_ends_them(
    api: RunningFunction, cleanup: RunningFunction
) -> None:
    call(api, event("execute"))
    assert cleanup.invoke(event("cleanup"))["failed"] == 0
    assert call(api, event("status"))[1]["exists"] is True

    report = cleanup.invoke(event("cleanup-all"))
    assert report["ended"] >= 1
    assert report["failed"] == 0
    assert call(api, event("status"))[1]["exists"] is False


def test_an_upload_is_read_by_the_ingest_function(built: Built, api: RunningFunction, stack: RunningStack) -> None:
    """The local stack reads uploads as well; a repeated event must end in the same record."""
    content = (ROOT / "local" / "data" / "employee_data.csv").read_bytes()
    with stack.client() as client:
        asked = {"fileName": "built.csv", "size": len(content), "contentType": "text/csv"}
        registered = client.post("/api/chats/demo/files", json=asked).raise_for_status().json()
        upload = registered["upload"]
        httpx.post(upload["url"], data=upload["fields"], files={"file": content}).raise_for_status()
        address = f"/api/chats/demo/files/{registered['fileId']}"

        arrived = event("s3-upload")
        arrived["Records"][0]["s3"]["object"]["key"] = quote_plus(f"files/o=local/c=demo/{registered['fileId']}")
        with running(
            built, "FileIngestFunction", built.settings("FileIngestFunction", stack.environment)
        ) as ingest:
            assert ingest.invoke(arrived) == {"files": 1}

        record = client.get(address).raise_for_status().json()
        assert record["status"] == "ready", record
        assert record["headers"][0] in content.decode().splitlines()[0]
        client.delete(address).raise_for_status()


def test_a_function_without_its_settings_fails_and_names_them(built: Built) -> None:
    with (
        running(built, "CleanupFunction", {"POWERTOOLS_METRICS_NAMESPACE": "Sandkeeper"}) as function,
        pytest.raises(FunctionError, match="TABLE_NAME"),
    ):
        function.invoke(event("cleanup"))


def test_layers_hold_what_lambda_runs_and_nothing_else(built: Built) -> None:
    assert {each.name for each in built.layer("SharedLayer").iterdir()} == {"sandkeeper"}
    kept = {each.name for each in built.layer("DependenciesLayer").glob("botocore/data/*/")}
    assert {name for name in kept if not name.endswith(".json")} == AWS_SERVICES
    third_party = {each.name for each in built.layer("IngestLayer").iterdir()}
    assert not third_party & {"fastapi", "e2b", "e2b_code_interpreter"}
    assert not {each.name for each in built.layer("McpLayer").iterdir()} & {"fastapi", "duckdb"}
    assert not {each.name for each in built.layer("DependenciesLayer").iterdir()} & {"mcp", "mcp_types"}


def test_layers_hold_bytecode_that_needs_no_check_at_start(built: Built) -> None:
    """A pyc's flags: 1 = validated by hash, never checked. Anything else would be compiled at every cold start."""
    tag = f"cpython-{''.join(built.python.name.removeprefix('python').split('.'))}"
    for source in built.layer("SharedLayer").rglob("*.py"):
        [compiled] = (source.parent / "__pycache__").glob(f"{source.stem}.*")
        assert tag in compiled.name
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0"


def test_layers_of_packages_hold_bytecode_in_place_of_sources(built: Built) -> None:
    for layer in ("DependenciesLayer", "IngestLayer", "McpLayer"):
        assert not list(built.layer(layer).rglob("*.py"))
        assert not list(built.layer(layer).rglob("__pycache__"))
        assert (built.layer(layer) / "botocore" / "session.pyc").exists()


def test_functions_import_nothing_that_they_do_without(built: Built) -> None:
    def imported_by(logical_id: str) -> set[str]:
        code = "import app, sys; print(*{name.split('.')[0] for name in sys.modules})"
        path = ":".join(map(str, built.python_path(logical_id)))
        done = subprocess.run(
            [built.python, "-S", "-B", "-c", code],
            env={"PYTHONPATH": path, "AWS_REGION": "us-east-1"},
            capture_output=True,
            text=True,
            check=True,
        )
        return set(done.stdout.split())

    assert not imported_by("FileIngestFunction") & {"fastapi", "starlette", "e2b", "e2b_code_interpreter"}
    assert not imported_by("CleanupFunction") & {"fastapi", "starlette", "mangum"}
    assert not imported_by("ApiFunction") & {"mcp", "mcp_types"}
    assert not imported_by("McpFunction") & {"fastapi", "boto3", "e2b", "duckdb", "httpx2", "uvicorn"}


def test_a_run_in_a_sandbox_that_there_is_and_a_list_of_them_need_little_of_e2bs_sdk(built: Built) -> None:
    """A tick that finds nothing to end does no more. In the layer it is lazy: see `LAZY` in layers/rewriting.py."""
    code = """
import contextlib, sys
from sandkeeper.adapters.e2b import E2BAccount, E2BSandboxProvider
from sandkeeper.errors import SandboxUnavailable
from sandkeeper.model import SandboxRef
provider = E2BSandboxProvider(lambda: E2BAccount(api_key="k", template="t", api_url="http://127.0.0.1:9"))
provider._runner(SandboxRef(sandbox_id="s", domain="e2b.app", envd_version="1", envd_token="t", traffic_token="t"))
with contextlib.suppress(SandboxUnavailable):
    provider.page({}, limit=1)
print(*{name.split(".")[0] for name in sys.modules})
"""
    path = ":".join(map(str, built.python_path("ApiFunction")))
    done = subprocess.run(
        [built.python, "-S", "-B", "-c", code],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(done.stdout.split()) & {"httpx", "pyqwest", "protobuf", "connectrpc", "attr", "rich"}
