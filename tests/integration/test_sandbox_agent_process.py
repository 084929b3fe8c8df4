"""An agent as a process: its addresses, what it loads and when, and that nothing outlives it."""

import http.client
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.agent_process import Agent, is_alive, running_agent

WAIT_S = 20
ENVD_PORT, INTERPRETER_PORT = 49983, 49999

DETACHED = """
import os, subprocess
start = "sleep 1000 > /dev/null 2>&1 & echo $!"
int(subprocess.run(["setsid", "sh", "-c", start], capture_output=True, text=True).stdout)
"""
"""Starts a program that nobody waits for, and shows its id."""


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """An agent that was given no token yet."""
    with running_agent() as running:
        yield running


def wait_for(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen in {WAIT_S} s"
        time.sleep(0.02)


def pid_of(agent: Agent, code: str) -> int:
    """The process that a run shows the id of."""
    return int(agent.value(code) or "")


def loopback_of(agent: Agent) -> str:
    """The address that programs in the sandbox are told is theirs."""
    return agent.value("import os\nos.environ['RUNNER_LOOPBACK']") or ""


def health(host: str, port: int) -> int:
    """The status of a request to the port."""
    connection = http.client.HTTPConnection(host, port, timeout=WAIT_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()


class TestRelay:
    def ask(self, agent: Agent, port: int | str) -> tuple[bytes, list[int]]:
        """What the relay answers, and the file descriptors that come with it."""
        with socket.socket(socket.AF_UNIX) as relay:
            relay.settimeout(WAIT_S)
            relay.connect(str(agent.run_dir / "relay.sock"))
            relay.sendall(f"{port}\n".encode())
            answer, descriptors, _, _ = socket.recv_fds(relay, 100, 2)
        return answer, descriptors

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", None])
    def test_hands_over_a_connection_to_a_program_at_any_loopback_address(
        self, agent: Agent, host: str | None
    ) -> None:
        family = socket.AF_INET6 if host == "::1" else socket.AF_INET
        with socket.create_server((host or loopback_of(agent), 0), family=family) as server:
            answer, descriptors = self.ask(agent, server.getsockname()[1])
            assert (answer, len(descriptors)) == (b"ok\n", 1)
            program, _ = server.accept()
            with program, socket.socket(fileno=descriptors[0]) as connection:
                connection.settimeout(WAIT_S)
                connection.sendall(b"hello")
                assert program.recv(5) == b"hello"
                program.sendall(b"hi")
                program.close()
                assert connection.recv(2) == b"hi"
                assert connection.recv(1) == b"", "nobody but the two ends holds the connection"

    def test_prefers_the_sandboxes_own_address(self, agent: Agent) -> None:
        """Another sandbox that shares the network may have the same port at its address, or at all of them."""
        with socket.create_server((loopback_of(agent), 0)) as own:
            port = own.getsockname()[1]
            with socket.create_server(("127.0.0.1", port)):
                _, descriptors = self.ask(agent, port)
                with socket.socket(fileno=descriptors[0]) as connection:
                    assert connection.getpeername() == (loopback_of(agent), port)

    def test_refuses_a_port_that_nobody_opened(self, agent: Agent) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        for refused in (port, 0, 70_000, "x"):
            assert self.ask(agent, refused) == (b"refused\n", [])


class TestASharedNetwork:
    def test_has_the_agents_ports_at_an_address_of_the_sandboxes_own(self, agent: Agent) -> None:
        address = loopback_of(agent)
        assert address.startswith("127.")
        assert address != "127.0.0.1"
        assert [health(address, port) for port in (ENVD_PORT, INTERPRETER_PORT)] == [204, 200]

    def test_has_two_agents_that_do_not_meet(self, agent: Agent) -> None:
        with running_agent() as other:
            assert loopback_of(other) != loopback_of(agent)
            assert health(loopback_of(other), ENVD_PORT) == health(loopback_of(agent), ENVD_PORT) == 204


class TestWhatItLoads:
    def test_the_calls_that_come_first_find_all_that_they_need_loaded(self, tmp_path: Path) -> None:
        noted = tmp_path / "noted"
        (tmp_path / "sitecustomize.py").write_text(
            "import sys\n"
            "class Noted:\n"
            "    def find_spec(name, *_):\n"
            f"        name != 'agent.envd.rpc' or open({str(noted)!r}, 'w').close()\n"
            "sys.meta_path.insert(0, Noted)\n"
        )
        with running_agent(python_path=tmp_path):
            assert noted.exists()

    def test_what_the_agent_does_without_is_there_for_code(self, agent: Agent) -> None:
        code = "import pyqwest, watchfiles\nall(module.__file__ for module in (pyqwest, watchfiles))"
        assert agent.value(code) == "True"


def test_a_kernel_that_does_not_greet_its_agent_gets_ready(tmp_path: Path) -> None:
    """A greeting can get lost, and an agent that waited for it waited for good."""
    mute = "from ipykernel import iostream\niostream.IOPubThread._send_welcome_message = lambda *_: None\n"
    (tmp_path / "sitecustomize.py").write_text(mute)
    with running_agent(python_path=tmp_path) as agent:
        method = "from ipykernel.iostream import IOPubThread\nIOPubThread._send_welcome_message.__name__"
        assert agent.value(method) == "<lambda>"


class TestItsEnd:
    def test_leaves_nothing(self) -> None:
        with running_agent() as agent:
            kernel = pid_of(agent, "import os\nos.getpid()")
            agent.process.terminate()
            assert agent.process.wait(WAIT_S) == 0
            assert not is_alive(kernel)
            assert list((agent.folder / "tmp").iterdir()) == []

    def test_takes_kernels_along_also_if_it_was_killed(self) -> None:
        with running_agent() as agent:
            kernel = pid_of(agent, "import os\nos.getpid()")
            agent.process.kill()
            agent.process.wait()
            wait_for(lambda: not is_alive(kernel), "the kernel's end")

    def test_takes_along_what_had_let_go_of_its_kernel_if_that_is_to_be_adopted(self) -> None:
        with running_agent(flags="--adopt") as agent:
            detached = pid_of(agent, DETACHED)
            agent.value("import os\nos.kill(os.getppid(), 0)")
            agent.process.terminate()
            assert agent.process.wait(WAIT_S) == 0
            assert not is_alive(detached)

    def test_of_an_adopted_program_is_noticed(self) -> None:
        with running_agent(flags="--adopt") as agent:
            detached = pid_of(agent, DETACHED)
            os.kill(detached, 9)
            wait_for(lambda: not is_alive(detached), "its being reaped")
            assert agent.value("1 + 1") == "2"
