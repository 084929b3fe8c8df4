"""The unmodified E2B SDK, synchronous, against the local sandbox server."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import (
    CommandExitException,
    NotFoundException,
    PtySize,
    SandboxException,
    SandboxNotFoundException,
    SandboxNotRunningException,
    SandboxQuery,
    SandboxState,
    TimeoutException,
)
from e2b_code_interpreter import Sandbox

from tests.sandbox_server import Server, eventually


class TestLife:
    def test_a_created_sandbox_tells_what_it_was_created_with(self, sandboxes: Server) -> None:
        sandbox = Sandbox.create("my-template", timeout=120, metadata={"chat": "1"})
        info = sandbox.get_info()
        assert (info.sandbox_id, info.template_id) == (sandbox.sandbox_id, "my-template")
        assert (info.metadata, info.state) == ({"chat": "1"}, SandboxState.RUNNING)
        assert 0 < (info.end_at - datetime.now(UTC)).total_seconds() <= 120

    def test_a_killed_sandbox_is_gone_for_every_call(self, sandbox: Sandbox) -> None:
        assert sandbox.kill()
        assert not sandbox.is_running()
        assert not sandbox.kill()
        with pytest.raises(SandboxNotFoundException):
            sandbox.get_info()
        with pytest.raises(SandboxNotFoundException):
            Sandbox.connect(sandbox.sandbox_id, timeout=10)
        with pytest.raises(SandboxNotRunningException):
            sandbox.files.read("x")
        with pytest.raises(SandboxNotRunningException):
            sandbox.commands.run("true")
        with pytest.raises(TimeoutException, match="was not found"):
            sandbox.run_code("1")

    def test_variables_and_files_outlive_a_pause(self, sandbox: Sandbox) -> None:
        sandbox.run_code("x = 41; open('kept', 'w').write('yes')")
        assert sandbox.pause()
        assert sandbox.get_info().state is SandboxState.PAUSED
        assert not sandbox.pause()
        assert not sandbox.is_running()
        with pytest.raises(TimeoutException):
            sandbox.run_code("x")
        resumed = Sandbox.connect(sandbox.sandbox_id, timeout=120)
        assert resumed.run_code("x + 1").text == "42"
        assert resumed.files.read("kept") == "yes"

    def test_no_process_runs_while_the_sandbox_is_paused(self, sandbox: Sandbox) -> None:
        sandbox.commands.run("while :; do echo >> ticks; sleep 0.01; done", background=True, timeout=0)
        eventually(lambda: sandbox.files.exists("ticks"))
        sandbox.pause()
        home = next(Path("/tmp").glob(f"sk-*/*/{sandbox.sandbox_id}/home"))
        size = (home / "ticks").stat().st_size
        time.sleep(0.2)
        assert (home / "ticks").stat().st_size == size
        sandbox.connect(timeout=120)
        eventually(lambda: (home / "ticks").stat().st_size > size)

    def test_connecting_only_ever_lengthens_a_running_sandboxs_time(self, sandbox: Sandbox) -> None:
        end_at = sandbox.get_info().end_at
        Sandbox.connect(sandbox.sandbox_id, timeout=10)
        assert sandbox.get_info().end_at == end_at
        Sandbox.connect(sandbox.sandbox_id, timeout=500)
        assert sandbox.get_info().end_at > end_at

    def test_set_timeout_may_shorten(self, sandbox: Sandbox) -> None:
        end_at = sandbox.get_info().end_at
        sandbox.set_timeout(60)
        assert sandbox.get_info().end_at < end_at

    def test_the_deadline_ends_a_sandbox(self, sandboxes: Server) -> None:
        sandbox = Sandbox.create(timeout=1)
        eventually(lambda: sandboxes.states()[sandbox.sandbox_id] == "expired")
        assert not sandbox.is_running()

    def test_the_deadline_pauses_a_sandbox_that_shall_be_paused(self, sandboxes: Server) -> None:
        sandbox = Sandbox.create(timeout=60, lifecycle={"on_timeout": "pause"})
        sandbox.run_code("x = 1")
        sandbox.set_timeout(0)
        eventually(lambda: sandbox.get_info().state is SandboxState.PAUSED)
        assert Sandbox.connect(sandbox.sandbox_id, timeout=60).run_code("x").text == "1"

    def test_traffic_resumes_a_sandbox_that_shall_be_resumed(self, sandboxes: Server) -> None:
        sandbox = Sandbox.create(timeout=60, lifecycle={"on_timeout": "pause", "auto_resume": True})
        sandbox.pause()
        assert sandbox.run_code("1 + 1").text == "2"

    def test_one_idempotency_key_makes_one_sandbox(self, sandboxes: Server) -> None:
        before = len(sandboxes.states())
        found: list[str] = []
        threads = [
            threading.Thread(
                target=lambda: found.append(Sandbox.create(timeout=60, idempotency_key="chat-1").sandbox_id)
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(found)) == 1
        assert len(sandboxes.states()) == before + 1
        with pytest.raises(SandboxException, match="409"):
            Sandbox.create(timeout=61, idempotency_key="chat-1")

    def test_what_only_the_cloud_has_fails_clearly(self, sandbox: Sandbox) -> None:
        with pytest.raises(SandboxException, match="501"):
            sandbox.create_snapshot()
        with pytest.raises(SandboxException, match="501"):
            sandbox.pause(mode="filesystem")
        with pytest.raises(SandboxException, match="501"):
            Sandbox.create(volume_mounts={"/data": "volume"})

    def test_metrics_are_those_of_the_sandbox(self, sandbox: Sandbox) -> None:
        (metrics,) = sandbox.get_metrics()
        assert 10_000_000 < metrics.mem_used < metrics.mem_total
        assert metrics.cpu_count == 2


class TestList:
    def test_filters_by_metadata_and_state(self, sandboxes: Server) -> None:
        one = Sandbox.create(timeout=60, metadata={"chat": "1 & 2/ü", "app": "a"})
        two = Sandbox.create(timeout=60, metadata={"chat": "2", "app": "a"})
        two.pause()

        def ids(query: SandboxQuery) -> set[str]:
            return {info.sandbox_id for info in Sandbox.list(query).next_items()}

        assert ids(SandboxQuery(metadata={"app": "a"})) == {one.sandbox_id, two.sandbox_id}
        assert ids(SandboxQuery(metadata={"chat": "1 & 2/ü"})) == {one.sandbox_id}
        assert ids(SandboxQuery(metadata={"app": "a"}, state=[SandboxState.PAUSED])) == {two.sandbox_id}

    def test_filters_by_start_and_template(self, sandboxes: Server) -> None:
        before = Sandbox.create("one", timeout=60, metadata={"app": "b"})
        after = Sandbox.create("two", timeout=60, metadata={"app": "b"})
        started_at = after.get_info().started_at

        def ids(**query: Any) -> list[str]:
            return [i.sandbox_id for i in Sandbox.list(SandboxQuery(metadata={"app": "b"}, **query)).next_items()]

        assert ids(started_after=started_at) == [after.sandbox_id]
        assert ids(started_after=before.get_info().started_at) == [after.sandbox_id, before.sandbox_id]
        assert ids(template="one") == [before.sandbox_id]

    def test_paused_sandboxes_are_paged_like_running_ones(self, sandboxes: Server) -> None:
        made = [Sandbox.create(timeout=60, metadata={"page": "y"}) for _ in range(3)]
        for sandbox in made[:2]:
            sandbox.pause()
        query = SandboxQuery(metadata={"page": "y"}, state=[SandboxState.PAUSED, SandboxState.RUNNING])
        pages = Sandbox.list(query, limit=1, order="asc")
        found = []
        while pages.has_next:
            found += [(info.sandbox_id, info.state) for info in pages.next_items()]
        states = [SandboxState.PAUSED, SandboxState.PAUSED, SandboxState.RUNNING]
        assert found == [(sandbox.sandbox_id, state) for sandbox, state in zip(made, states, strict=True)]

    def test_pages_follow_each_other_without_gap_or_repetition(self, sandboxes: Server) -> None:
        made = [Sandbox.create(timeout=60, metadata={"page": "x"}).sandbox_id for _ in range(3)]
        pages = Sandbox.list(SandboxQuery(metadata={"page": "x"}), limit=2)
        first = [info.sandbox_id for info in pages.next_items()]
        assert pages.has_next
        second = [info.sandbox_id for info in pages.next_items()]
        assert not pages.has_next
        assert first + second == made[::-1]
        oldest_first = Sandbox.list(SandboxQuery(metadata={"page": "x"}), order="asc").next_items()
        assert [info.sandbox_id for info in oldest_first] == made


class TestFiles:
    def test_written_files_are_read_listed_renamed_and_removed(self, shared: Sandbox) -> None:
        assert shared.files.write("a.txt", "hällo").path == "/home/user/a.txt"
        assert shared.files.read("a.txt") == "hällo"
        assert shared.files.make_dir("folder")
        shared.files.rename("a.txt", "folder/b.txt")
        assert [entry.name for entry in shared.files.list("folder")] == ["b.txt"]
        assert shared.files.get_info("folder/b.txt").size == 6
        shared.files.remove("folder")
        assert not shared.files.exists("folder")
        with pytest.raises(NotFoundException):
            shared.files.read("folder/b.txt")

    def test_bytes_and_streams_come_back_unchanged(self, shared: Sandbox) -> None:
        content = bytes(range(256)) * 4096
        shared.files.write("blob", content)
        assert bytes(shared.files.read("blob", format="bytes")) == content
        assert b"".join(shared.files.read("blob", format="stream")) == content

    def test_a_watched_folder_reports_changes(self, shared: Sandbox) -> None:
        shared.files.make_dir("watched")
        watch = shared.files.watch_dir("watched")
        shared.files.write("watched/new.txt", "x")
        names: list[str] = []

        def reported() -> bool:
            names.extend(event.name for event in watch.get_new_events())
            return "new.txt" in names

        eventually(reported)
        watch.stop()

    def test_signed_urls_upload_and_download(self, shared: Sandbox) -> None:
        upload = shared.upload_url("up.txt", use_signature_expiration=60)
        reply = httpx.post(upload, files={"file": ("up.txt", b"from outside")})
        assert reply.is_success, reply.text
        download = shared.download_url("up.txt", use_signature_expiration=60)
        assert httpx.get(download).content == b"from outside"
        forged = download.replace("signature=v1_", "signature=v1_x")
        assert not httpx.get(forged).is_success


class TestCommands:
    def test_a_command_gives_output_and_exit_code(self, shared: Sandbox) -> None:
        result = shared.commands.run("echo out; echo err >&2; pwd", envs={"A": "1"})
        assert (result.stdout, result.stderr, result.exit_code) == ("out\n/home/user\n", "err\n", 0)
        with pytest.raises(CommandExitException) as failure:
            shared.commands.run("exit 3")
        assert failure.value.exit_code == 3

    def test_root_is_the_sandboxs_one_user(self, shared: Sandbox) -> None:
        assert shared.commands.run("id -un; pwd", user="root").stdout == "user\n/home/user\n"

    def test_output_is_streamed(self, shared: Sandbox) -> None:
        came: list[str] = []
        shared.commands.run("for i in 1 2 3; do echo $i; done", on_stdout=came.append)
        assert "".join(came) == "1\n2\n3\n"

    def test_a_background_command_takes_input_and_is_found_again(self, shared: Sandbox) -> None:
        handle = shared.commands.run("read line; echo got $line; sleep 100", background=True, stdin=True)
        assert handle.pid in [process.pid for process in shared.commands.list()]
        shared.commands.send_stdin(handle.pid, "hello\n")
        stdout = next(out for out, _, _ in handle if out)
        assert stdout == "got hello\n"
        handle.disconnect()
        again = shared.commands.connect(handle.pid)
        assert again.kill()
        with pytest.raises(CommandExitException):
            again.wait()
        assert not shared.commands.kill(handle.pid)

    def test_a_command_over_its_time_ends(self, shared: Sandbox) -> None:
        with pytest.raises(TimeoutException):
            shared.commands.run("sleep 100", timeout=1)
        eventually(lambda: shared.commands.run("pgrep -c sleep || true").stdout.strip() == "0")

    def test_a_terminal_is_interactive(self, shared: Sandbox) -> None:
        handle = shared.pty.create(PtySize(rows=24, cols=80))
        shared.pty.send_stdin(handle.pid, b"stty size; exit 0\n")
        output = b"".join(data for _, _, data in handle if data)
        assert b"24 80" in output

    def test_a_kill_of_the_sandbox_ends_a_running_command(self, sandbox: Sandbox) -> None:
        handle = sandbox.commands.run("sleep 100", background=True, timeout=0)
        threading.Timer(0.1, sandbox.kill).start()
        with pytest.raises(TimeoutException):
            handle.wait()


class TestRuns:
    def test_values_streams_and_errors_come_back(self, shared: Sandbox) -> None:
        out: list[str] = []
        execution = shared.run_code(
            "import sys; print('out'); print('err', file=sys.stderr); 6 * 7",
            on_stdout=lambda message: out.append(message.line),
        )
        assert execution.text == "42"
        assert "".join(execution.logs.stdout) == "".join(out) == "out\n"
        assert "".join(execution.logs.stderr) == "err\n"
        failure = shared.run_code("1 / 0").error
        assert failure
        assert failure.name == "ZeroDivisionError"

    @pytest.mark.parametrize(
        ("code", "name"),
        [
            ("HTML('<b>x</b>')", "html"),
            ("Markdown('*x*')", "markdown"),
            ("Latex('$x$')", "latex"),
            ("JSON({'x': 1})", "json"),
            ("SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')", "svg"),
            ("Javascript('1')", "javascript"),
        ],
    )
    def test_rich_results_have_their_type(self, shared: Sandbox, code: str, name: str) -> None:
        (result,) = shared.run_code(f"from IPython.display import *\n{code}").results
        assert getattr(result, name)
        assert result.is_main_result

    def test_a_plot_comes_as_picture_and_chart(self, shared: Sandbox) -> None:
        code = "import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2]); plt.title('t'); plt.show()"
        (result,) = shared.run_code(code).results
        assert result.png
        assert result.chart
        assert result.chart.title == "t"

    def test_a_dataframe_comes_with_its_data(self, shared: Sandbox) -> None:
        (result,) = shared.run_code("import pandas as pd; pd.DataFrame({'a': [1, 2]})").results
        assert result.html
        assert result.data == {"a": [1, 2]}

    def test_contexts_do_not_share_variables(self, shared: Sandbox) -> None:
        context = shared.create_code_context(cwd="/tmp")
        shared.run_code("x = 1", context=context)
        assert shared.run_code("import os; x, os.getcwd()", context=context).text == "(1, '/tmp')"
        assert shared.run_code("x").error
        assert context.id in [found.id for found in shared.list_code_contexts()]
        shared.restart_code_context(context)
        assert shared.run_code("x", context=context).error
        shared.remove_code_context(context)
        with pytest.raises(NotFoundException):
            shared.run_code("1", context=context)

    def test_bash_runs_and_other_languages_are_refused(self, shared: Sandbox) -> None:
        assert "".join(shared.run_code("echo hi", language="bash").logs.stdout) == "hi\n"
        with pytest.raises(SandboxException):
            shared.run_code("1", language="fortran")

    def test_a_run_over_its_time_is_interrupted_and_the_next_one_runs(self, shared: Sandbox) -> None:
        shared.run_code("x = 'kept'")
        with pytest.raises(TimeoutException):
            shared.run_code("import time\nwhile True: time.sleep(0.01)", timeout=1)
        assert shared.run_code("x", timeout=10).text == "kept"

    def test_a_run_is_interrupted_by_a_signal_to_the_kernels_process(self, shared: Sandbox) -> None:
        """As in E2B's image, the process is found by the name of its launcher."""
        shared.run_code("kept = 41")
        came = threading.Event()
        code = "import time\nprint('on', flush=True)\ntime.sleep(100)"
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(shared.run_code, code, on_stdout=lambda _: came.set())
            assert came.wait(20)
            # The brackets keep the pattern from fitting the shell's own command line.
            interrupt = "grep -qs '[i]pykernel_launcher' $p/cmdline && kill -INT ${p#/proc/}"
            shared.commands.run(f"for p in /proc/[0-9]*; do {interrupt}; done; true", user="root")
            error = run.result(20).error
        assert error
        assert error.name == "KeyboardInterrupt"
        assert shared.run_code("kept + 1").text == "42"

    def test_a_kill_of_the_sandbox_ends_a_run(self, sandbox: Sandbox) -> None:
        threading.Timer(0.2, sandbox.kill).start()
        with pytest.raises(TimeoutException):
            sandbox.run_code("import time; time.sleep(100)")

    def test_environment_variables_reach_runs_and_commands(self, sandboxes: Server) -> None:
        sandbox = Sandbox.create(timeout=60, envs={"GREETING": "hello"})
        assert sandbox.run_code("import os; os.environ['GREETING']").text == "hello"
        assert sandbox.commands.run("echo $GREETING $E2B_SANDBOX_ID").stdout == f"hello {sandbox.sandbox_id}\n"
