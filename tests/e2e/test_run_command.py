"""`make run`: ready, described, and gone without a trace however it ends."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.local_command import LocalCommand, local_command, until


@pytest.fixture
def local() -> Iterator[LocalCommand]:
    with local_command() as command:
        yield command


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")
def test_the_printed_first_call_works_as_it_is(local: LocalCommand) -> None:
    with local.started("run", API_KEY="sk_of_this_test") as process:
        local.ready(process)
        assert process.stdout is not None
        printed = iter(process.stdout.readline, "")
        lines = [next(line for line in printed if line.lstrip().startswith("curl "))]
        while lines[-1].rstrip().endswith("\\"):
            lines.append(next(printed))
        called = subprocess.run(["bash", "-c", "".join(lines)], capture_output=True, check=True)
    assert [each["content"] for each in json.loads(called.stdout)["results"]] == ["42\n"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_stack_leaves_nothing_behind(local: LocalCommand, ending: signal.Signals) -> None:
    with local.started("run") as process:
        described = local.ready(process)
        assert set(described) == {"api_url", "sandbox_url", "aws_url", "api_key", "pids"}
        assert {str(pid) for pid in described["pids"].values()} <= set(local.processes())
        process.send_signal(ending)
        assert process.wait(30) == 0
    local.assert_nothing_is_left()


def test_a_stack_that_is_interrupted_while_it_starts_leaves_nothing_behind(local: LocalCommand) -> None:
    with local.started("run") as process:
        until((local.run_dir / "aws.log").exists, "a first server")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    local.assert_nothing_is_left()


def test_a_killed_supervisor_leaves_no_process_and_no_temporary_file(local: LocalCommand) -> None:
    with local.started("run") as process:
        local.ready(process)
        process.kill()
        process.wait()
        until(lambda: not local.processes(), "the end of all servers")
    assert not list(local.temporary.iterdir())


def test_a_server_that_dies_ends_the_stack_loudly(local: LocalCommand) -> None:
    with local.started("run") as process:
        os.kill(local.ready(process)["pids"]["sandboxes"], signal.SIGKILL)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 1
    assert "sandboxes ended by itself" in output
    local.assert_nothing_is_left()


def test_a_port_in_use_is_named_with_its_variable_before_anything_starts(local: LocalCommand) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with local.started("run", SANDBOX_PORT=port) as process:
            output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    (line,) = output.splitlines()
    assert port in line
    assert "SANDBOX_PORT" in line
    assert not local.run_dir.exists()
    local.assert_nothing_is_left()
