"""A real agent with real kernels, spoken to over its socket."""

import gzip
import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from e2b.sandbox.signature import get_signature

from tests.integration.agent_process import INTERPRETER, Agent, is_alive, only, running_agent, unix_client

TOKEN = "token-of-this-test"


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """An agent that was given a token, and a client that sends it."""
    with running_agent("pandas,matplotlib.pyplot", {"X-Access-Token": TOKEN}) as running:
        given = {"accessToken": TOKEN, "envVars": {"OF_THE_SANDBOX": "yes"}}
        assert running.client.post("/init", json=given).status_code == 204
        yield running


@pytest.fixture
def stranger(agent: Agent) -> Iterator[httpx.Client]:
    """A client without the token."""
    with unix_client(agent.run_dir / "agent.sock") as client:
        yield client


class TestResults:
    def test_the_last_expression_is_the_main_result(self, agent: Agent) -> None:
        assert agent.value("40 + 2") == "42"

    def test_a_run_is_numbered_and_ends_with_its_end(self, agent: Agent) -> None:
        first, second = (agent.execute("None") for _ in range(2))
        numbers = [only(events, "number_of_executions")[0]["execution_count"] for events in (first, second)]
        assert numbers[1] == numbers[0] + 1
        assert second[-1] == {"type": "end_of_execution"}

    def test_a_string_comes_without_the_quotes_of_its_repr(self, agent: Agent) -> None:
        assert agent.value("'text'") == "text"

    def test_every_displayed_kind_has_a_field_and_an_unknown_one_is_extra(self, agent: Agent) -> None:
        bundle = {
            "text/plain": "t",
            "text/html": "<b>",
            "text/markdown": "# m",
            "image/svg+xml": "<svg/>",
            "image/png": "cG5n",
            "image/jpeg": "anBn",
            "application/pdf": "cGRm",
            "text/latex": "$l$",
            "application/json": {"a": 1},
            "application/javascript": "j",
            "application/x-unknown": "u",
        }
        code = f"from IPython.display import display\ndisplay({bundle!r}, raw=True)"
        (result,) = only(agent.execute(code), "result")
        assert result == {
            "type": "result",
            "is_main_result": False,
            "text": "t",
            "html": "<b>",
            "markdown": "# m",
            "svg": "<svg/>",
            "png": "cG5n",
            "jpeg": "anBn",
            "pdf": "cGRm",
            "latex": "$l$",
            "json": {"a": 1},
            "javascript": "j",
            "extra": {"application/x-unknown": "u"},
        }

    def test_a_dataframe_comes_with_its_columns(self, agent: Agent) -> None:
        code = (
            "import pandas\n"
            "pandas.DataFrame({'n': [1, None], 't': pandas.to_datetime(['2026-01-02', None]), 's': ['a', 'b']})"
        )
        (result,) = only(agent.execute(code), "result")
        assert result["data"] == {"n": [1.0, None], "t": ["2026-01-02T00:00:00", None], "s": ["a", "b"]}
        assert "<table" in result["html"]

    def test_a_shown_figure_comes_as_image_and_as_chart(self, agent: Agent) -> None:
        code = "import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2])\nplt.title('Two')\nplt.show()"
        (result,) = only(agent.execute(code), "result")
        assert result["png"].startswith("iVBOR")
        assert (result["chart"]["type"], result["chart"]["title"]) == ("bar", "Two")
        assert [bar["value"] for bar in result["chart"]["elements"]] == [1.0, 2.0]

    def test_a_list_comes_as_json_with_null_for_what_is_no_number(self, agent: Agent) -> None:
        (result,) = only(
            agent.execute("import numpy\n[numpy.int64(1), float('nan'), {'k': numpy.arange(2)}]"), "result"
        )
        assert result["json"] == [1, None, {"k": [0, 1]}]


class TestOutput:
    def test_both_streams_come_with_the_time_in_nanoseconds(self, agent: Agent) -> None:
        before = time.time_ns()
        events = agent.execute("import sys\nprint('out')\nprint('err', file=sys.stderr)")
        (out,), (err,) = only(events, "stdout"), only(events, "stderr")
        assert (out["text"], err["text"]) == ("out\n", "err\n")
        assert before - 10**9 < out["timestamp"] < time.time_ns() + 10**9

    def test_output_comes_in_order(self, agent: Agent) -> None:
        events = agent.execute("for i in range(1000): print(i)\ndisplay(1)\nprint('last')")
        texts = "".join(event["text"] for event in events if event["type"] in ("stdout", "result"))
        assert texts == "".join(f"{i}\n" for i in range(1000)) + "1" + "last\n"

    def test_output_of_child_processes_comes_too(self, agent: Agent) -> None:
        """A thread of the kernel reads it, beside the code: what it reads after the code's end is of no run."""
        child = "import subprocess, time\nsubprocess.run(['echo', 'from a child'], check=True)"
        events = agent.execute(f"{child}\ntime.sleep(1)")
        assert only(events, "stdout")[0]["text"] == "from a child\n"

    def test_output_arrives_while_the_code_still_runs(self, agent: Agent) -> None:
        go = agent.home / "go"
        code = f"import os, time\nprint('waiting')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"
        with agent.client.stream("POST", "/execute", json={"code": code}, headers=INTERPRETER) as answer:
            events = (json.loads(line) for line in answer.iter_lines())
            assert next(event for event in events if event["type"] == "stdout")["text"] == "waiting\n"
            go.touch()
            assert list(events)[-1]["type"] == "end_of_execution"

    def test_an_error_has_name_value_and_a_coloured_traceback(self, agent: Agent) -> None:
        events = agent.execute("1 / 0")
        (error,) = only(events, "error")
        assert (error["name"], error["value"]) == ("ZeroDivisionError", "division by zero")
        assert "\x1b[" in error["traceback"]
        assert error["traceback"].count("\n") > 2
        assert events[-1] == {"type": "end_of_execution"}

    def test_an_error_comes_after_what_was_printed_before_it(self, agent: Agent) -> None:
        """The kernel tells of an error on two channels, and one of them overtook the output now and then."""
        runs = [agent.execute("print(1)\n1 / 0") for _ in range(60)]
        for events in runs:
            first, *printed, raised, last = (event["type"] for event in events)
            assert (first, {*printed}, raised) == ("number_of_executions", {"stdout"}, "error")
            assert last == "end_of_execution"

    def test_code_that_asks_for_input_fails_at_once(self, agent: Agent) -> None:
        (error,) = only(agent.execute("input('name? ')"), "error")
        assert "does not support input" in error["value"]


class TestKernels:
    def test_variables_of_a_run_are_gone_afterwards(self, agent: Agent) -> None:
        tricky = "quote ' and \" and\nline $HOME"
        code = "import os\nprint(os.environ.get('OF_THE_RUN'), end='')"
        assert only(agent.execute(code, env_vars={"OF_THE_RUN": tricky}), "stdout")[0]["text"] == tricky
        assert only(agent.execute(code), "stdout")[0]["text"] == "None"

    def test_variables_of_the_sandbox_reach_the_kernel_that_was_running(self, agent: Agent) -> None:
        assert agent.value("import os\nos.environ['OF_THE_SANDBOX']") == "yes"

    def test_a_users_module_named_like_ours_is_the_one_imported(self, agent: Agent) -> None:
        (agent.home / "agent.py").write_text("whose = 'the user'")
        assert agent.value("import agent\nagent.whose") == "the user"

    @pytest.mark.parametrize(
        ("death", "cause"),
        [("os._exit(3)", "exit status 3"), ("os.kill(os.getpid(), 9)", "signal: killed")],
    )
    def test_a_dead_kernel_ends_the_run_and_is_replaced(self, agent: Agent, death: str, cause: str) -> None:
        events = agent.execute(f"import os\nkept = 1\n{death}")
        (error,) = only(events, "error")
        assert error["name"] == "ContextRestarting"
        assert cause in error["value"]
        assert events[-1] == {"type": "end_of_execution"}
        assert agent.value("'kept' in globals()") == "False"

    @pytest.mark.parametrize("wait", ["time.sleep(1000)", "await asyncio.sleep(1000)"])
    def test_a_client_that_leaves_interrupts_its_run_only(self, agent: Agent, wait: str) -> None:
        code = f"import asyncio, time\nseen = 'before'\nprint('running')\n{wait}\nseen = 'after'"
        with agent.client.stream("POST", "/execute", json={"code": code}, headers=INTERPRETER) as answer:
            next(line for line in answer.iter_lines() if "running" in line)
        assert agent.value("seen") == "before"

    def test_a_client_that_leaves_the_queue_was_never_run(self, agent: Agent) -> None:
        agent.execute("ran = False")
        go = agent.home / "go-on"
        blocker = f"import os, time\nprint('on')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"
        with agent.client.stream("POST", "/execute", json={"code": blocker}, headers=INTERPRETER) as running:
            lines = running.iter_lines()
            next(line for line in lines if "on" in line)
            with agent.client.stream("POST", "/execute", json={"code": "ran = True"}, headers=INTERPRETER):
                pass
            go.touch()
            assert "end_of_execution" in list(lines)[-1]
        assert agent.value("ran") == "False"


class TestContexts:
    def create(self, agent: Agent, **wanted: str) -> dict[str, str]:
        answer = agent.client.post("/contexts", json=wanted, headers=INTERPRETER)
        assert answer.status_code == 200, answer.text
        created: dict[str, str] = answer.json()
        return created

    def listed(self, agent: Agent) -> list[dict[str, str]]:
        contexts: list[dict[str, str]] = agent.client.get("/contexts", headers=INTERPRETER).json()
        return contexts

    def test_a_context_has_its_own_variables_and_directory(self, agent: Agent) -> None:
        (agent.home / "apart").mkdir()
        context = self.create(agent, cwd="apart")
        assert context["cwd"] == str(agent.home / "apart")
        agent.execute("mine = 'default'")
        code = "import os\n(os.getcwd(), 'mine' in globals())"
        assert agent.value(code, context_id=context["id"]) == f"('{agent.home}/apart', False)"
        assert context in self.listed(agent)

    def test_a_restarted_context_has_lost_its_variables(self, agent: Agent) -> None:
        context = self.create(agent)
        agent.execute("mine = 1", context_id=context["id"])
        assert agent.client.post(f"/contexts/{context['id']}/restart", headers=INTERPRETER).is_success
        assert agent.value("'mine' in globals()", context_id=context["id"]) == "False"

    def test_a_removed_context_is_not_found(self, agent: Agent) -> None:
        context = self.create(agent)
        assert agent.client.delete(f"/contexts/{context['id']}", headers=INTERPRETER).is_success
        assert context not in self.listed(agent)
        run = {"code": "1", "context_id": context["id"]}
        assert agent.client.post("/execute", json=run, headers=INTERPRETER).status_code == 404

    def test_a_context_cannot_start_in_a_missing_directory(self, agent: Agent) -> None:
        answer = agent.client.post("/contexts", json={"cwd": "missing"}, headers=INTERPRETER)
        assert answer.status_code == 400
        assert "'missing' does not exist" in answer.text

    def test_bash_keeps_its_state_and_tells_exit_codes(self, agent: Agent) -> None:
        agent.execute("kept=yes; cd /", language="bash")
        tricky = "a b $HOME ' \" é"
        events = agent.execute("pwd; echo $kept; echo $ONCE; false", language="bash", env_vars={"ONCE": tricky})
        assert "".join(event["text"] for event in only(events, "stdout")) == f"/\nyes\n{tricky}\n"
        assert only(events, "error")[0]["value"] == "1"
        assert only(agent.execute("echo [$ONCE]", language="bash"), "stdout")[0]["text"] == "[]\n"

    def test_a_client_that_leaves_interrupts_bash_too(self, agent: Agent) -> None:
        run = {"code": "echo running; sleep 1000", "language": "bash"}
        with agent.client.stream("POST", "/execute", json=run, headers=INTERPRETER) as answer:
            next(line for line in answer.iter_lines() if "running" in line)
        assert only(agent.execute("echo next", language="bash"), "stdout")[0]["text"] == "next\n"

    def test_another_language_is_refused_with_the_ones_there_are(self, agent: Agent) -> None:
        run = {"code": "1", "language": "r"}
        answer = agent.client.post("/execute", json=run, headers=INTERPRETER)
        assert answer.status_code == 400
        assert answer.text == "language 'r' is not available here; use 'python' or 'bash'"


class TestFiles:
    def test_a_multipart_file_comes_back_as_it_was(self, agent: Agent) -> None:
        content = os.urandom(300_000)
        answer = agent.client.post("/files", params={"path": "deep/er/a.bin"}, files={"file": content})
        path = str(agent.home / "deep/er/a.bin")
        assert answer.json() == [{"name": "a.bin", "type": "file", "path": path}]
        assert agent.client.get("/files", params={"path": "~/deep/er/a.bin"}).content == content

    def test_several_files_are_named_by_their_parts(self, agent: Agent) -> None:
        name = str(agent.home / 'a "quoted" näme.txt')
        answer = agent.client.post("/files", files=[("file", (name, b"1")), ("file", ("relative.txt", b"2"))])
        assert [entry["path"] for entry in answer.json()] == [name, str(agent.home / "relative.txt")]
        assert Path(name).read_bytes() == b"1"

    def test_a_compressed_upload_is_stored_plain_and_can_be_had_compressed(self, agent: Agent) -> None:
        content = b"many times the same " * 50_000
        octets = {"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}
        params = {"path": "z.txt", "username": "user"}
        agent.client.post("/files", params=params, headers=octets, content=gzip.compress(content))
        assert (agent.home / "z.txt").read_bytes() == content
        answer = agent.client.get("/files", params=params, headers={"Accept-Encoding": "gzip"})
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.content == content

    def test_metadata_is_that_of_the_last_upload(self, agent: Agent) -> None:
        octets = {"Content-Type": "application/octet-stream"}
        for name in ("Old", "Author"):
            headers = {**octets, f"X-Metadata-{name}": "someone"}
            answer = agent.client.post("/files", params={"path": "m"}, headers=headers, content=b"1")
            assert answer.json()[0]["metadata"] == {name.lower(): "someone"}
        entry = agent.rpc("filesystem.Filesystem/Stat", path="m").json()["entry"]
        assert entry.get("metadata", {"author": "someone"}) == {"author": "someone"}  # absent on some file systems

    def test_an_empty_file_can_be_read(self, agent: Agent) -> None:
        (agent.home / "empty").touch()
        answer = agent.client.get("/files", params={"path": "empty"})
        assert (answer.status_code, answer.content) == (200, b"")

    @pytest.mark.parametrize(
        ("params", "status", "message"),
        [
            ({"path": "not/there"}, 404, "No such file"),
            ({"path": "."}, 400, "is a directory"),
            ({"path": "/dev/null"}, 400, "not a regular file"),
            ({"path": "x", "username": "nobody-here"}, 401, "'nobody-here' does not exist"),
        ],
    )
    def test_what_cannot_be_read_is_refused(
        self, agent: Agent, params: dict[str, str], status: int, message: str
    ) -> None:
        answer = agent.client.get("/files", params=params)
        assert answer.status_code == status
        assert message in answer.json()["message"]

    def test_what_cannot_be_written_is_refused(self, agent: Agent) -> None:
        octets = {"Content-Type": "application/octet-stream"}
        onto_directory = agent.client.post("/files", params={"path": "."}, headers=octets, content=b"1")
        nowhere = agent.client.post("/files", headers=octets, content=b"1")
        full = agent.client.post("/files", params={"path": "/dev/full"}, headers=octets, content=b"1")
        broken = agent.client.post(
            "/files", params={"path": "b"}, headers={**octets, "Content-Encoding": "gzip"}, content=b"not gzip"
        )
        assert [answer.status_code for answer in (onto_directory, nowhere, full, broken)] == [400, 400, 507, 400]


class TestAccess:
    def test_only_health_and_contexts_are_open(self, stranger: httpx.Client) -> None:
        assert stranger.get("/health").status_code == 204
        assert stranger.get("/contexts", headers=INTERPRETER).status_code == 200
        refused = [
            stranger.get("/files", params={"path": "x"}),
            stranger.post("/files", params={"path": "x"}, files={"file": b"1"}),
            stranger.post("/init", json={"accessToken": "mine"}),
            stranger.post("/process.Process/List", json={}),
            stranger.post("/execute", json={"code": "1"}, headers=INTERPRETER),
        ]
        assert {answer.status_code for answer in refused} == {401}

    def test_a_signed_url_opens_its_file_for_its_operation_until_it_expires(
        self, agent: Agent, stranger: httpx.Client
    ) -> None:
        (agent.home / "signed.txt").write_text("for the bearer")

        def params(path: str, expires_in_s: int | None) -> dict[str, str]:
            signed = get_signature("signed.txt", "read", None, TOKEN, expires_in_s)
            expiration = signed["expiration"]
            until = {} if expiration is None else {"signature_expiration": str(expiration)}
            return {"path": path, "signature": signed["signature"], **until}

        assert stranger.get("/files", params=params("signed.txt", None)).text == "for the bearer"
        assert stranger.get("/files", params=params("signed.txt", 60)).text == "for the bearer"
        refused = [
            stranger.get("/files", params=params("signed.txt", -1)),
            stranger.get("/files", params=params("other.txt", None)),
            stranger.post("/files", params=params("signed.txt", None), files={"file": b"1"}),
            stranger.get("/files", params={**params("signed.txt", 60), "signature_expiration": "soon"}),
        ]
        assert [answer.status_code for answer in refused] == [401] * 4


class TestRpc:
    def test_making_a_directory_twice_says_that_it_exists(self, agent: Agent) -> None:
        first, second = (agent.rpc("filesystem.Filesystem/MakeDir", path="made/twice") for _ in range(2))
        assert first.status_code == 200
        assert second.json()["code"] == "already_exists"

    def test_a_missing_path_is_not_found(self, agent: Agent) -> None:
        assert agent.rpc("filesystem.Filesystem/Stat", path="nothing").json()["code"] == "not_found"

    def test_a_command_outlives_whoever_started_it_and_can_be_killed(self, agent: Agent) -> None:
        request = json.dumps({"process": {"cmd": "/bin/sleep", "args": ["1000"]}}).encode()
        headers = {"Content-Type": "application/connect+json"}
        body = struct.pack(">BI", 0, len(request)) + request
        with agent.client.stream("POST", "/process.Process/Start", content=body, headers=headers) as answer:
            first = next(answer.iter_bytes())
        pid = json.loads(first[5:])["event"]["start"]["pid"]
        assert pid in [process["pid"] for process in agent.rpc("process.Process/List").json()["processes"]]

        kill = {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"}
        assert agent.rpc("process.Process/SendSignal", **kill).status_code == 200
        assert not is_alive(pid)
        assert agent.rpc("process.Process/SendSignal", **kill).json()["code"] == "not_found"
