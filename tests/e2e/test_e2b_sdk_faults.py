"""Failures on demand, as the unmodified E2B SDK tells them, and the counts of calls."""

from collections.abc import Callable

import httpx
import pytest
from e2b import (
    RateLimitException,
    SandboxException,
    SandboxNotFoundException,
    SandboxState,
    ServiceBusyException,
    TimeoutException,
)
from e2b_code_interpreter import Sandbox

from tests.sandbox_server import Server

# The SDK's own attempts to get through would use a fault up.
CALLS: dict[str, Callable[[Sandbox], object]] = {
    "create": lambda _: Sandbox.create(timeout=60, retries=0),
    "connect": lambda sandbox: sandbox.connect(timeout=60, retries=0),
    "pause": lambda sandbox: sandbox.pause(retries=0),
    "kill": lambda sandbox: sandbox.kill(retries=0),
    "timeout": lambda sandbox: sandbox.set_timeout(60, retries=0),
    "list": lambda _: Sandbox.list(retries=0).next_items(),
    "info": lambda sandbox: sandbox.get_info(retries=0),
}


class TestCalls:
    @pytest.mark.parametrize("call", CALLS)
    def test_each_call_fails_on_demand_with_nothing_done(
        self, sandbox: Sandbox, sandboxes: Server, call: str
    ) -> None:
        before = sandboxes.states()
        for kind, told in (
            ("rate_limited", RateLimitException),
            ("unavailable", ServiceBusyException),
            ("failed", SandboxException),
        ):
            sandboxes.plan(kind, call=call)
            with pytest.raises(told):
                CALLS[call](sandbox)
        assert sandboxes.states() == before
        CALLS[call](sandbox)

    @pytest.mark.parametrize(("call", "state"), [("kill", "killed"), ("pause", "paused"), ("connect", "running")])
    def test_a_call_whose_answer_is_lost_was_done(
        self, sandbox: Sandbox, sandboxes: Server, call: str, state: str
    ) -> None:
        if call == "connect":
            sandbox.pause()
        sandboxes.plan("reply_lost", call=call, sandbox_id=sandbox.sandbox_id)
        with pytest.raises(httpx.TransportError):
            CALLS[call](sandbox)
        assert sandboxes.states()[sandbox.sandbox_id] == state

    def test_a_create_whose_answer_is_lost_has_made_a_sandbox(self, sandboxes: Server) -> None:
        before = len(sandboxes.states())
        with pytest.raises(httpx.TransportError):
            Sandbox.create(timeout=60, api_headers={"X-Sandkeeper-Fault": "reply_lost;call=create"})
        assert len(sandboxes.states()) == before + 1

    @pytest.mark.parametrize("call", ["create", "info"])
    def test_a_slow_call_outlasts_an_impatient_client(self, sandbox: Sandbox, sandboxes: Server, call: str) -> None:
        sandboxes.plan("slow", call=call, delay_ms=1500)
        with pytest.raises(httpx.TimeoutException):
            if call == "create":
                Sandbox.create(timeout=60, request_timeout=0.5, retries=0)
            else:
                sandbox.get_info(request_timeout=0.5, retries=0)

    def test_calls_and_runs_are_counted(self, sandboxes: Server) -> None:
        before = sandboxes.calls()

        def news() -> dict[str, int]:
            return {
                name: count - before[name] for name, count in sandboxes.calls().items() if count != before[name]
            }

        sandbox = Sandbox.create(timeout=60)
        sandbox.run_code("1")
        sandbox.run_code("2")
        sandbox.commands.run("true")
        assert news() == {"create": 1, "run": 2}
        sandbox.get_info()
        sandbox.set_timeout(60)
        sandbox.pause()
        sandbox.connect(timeout=60)
        Sandbox.list().next_items()
        sandbox.kill()
        each_once = dict.fromkeys(("create", "info", "timeout", "pause", "connect", "list", "kill"), 1)
        assert news() == {**each_once, "run": 2}


class TestSandboxes:
    def test_a_runs_connection_breaks_on_demand(self, sandbox: Sandbox, sandboxes: Server) -> None:
        sandboxes.plan("run_dropped", sandbox_id=sandbox.sandbox_id)
        with pytest.raises(httpx.TransportError):
            sandbox.run_code("print(1)")
        assert sandbox.run_code("1").text == "1"

    def test_a_sandbox_is_unreachable_on_demand(self, sandbox: Sandbox, sandboxes: Server) -> None:
        sandboxes.plan("unreachable", sandbox_id=sandbox.sandbox_id, times=None)
        with pytest.raises(httpx.TransportError):
            sandbox.run_code("1")
        sandboxes.call("DELETE", "/admin/faults")
        assert sandbox.run_code("1").text == "1"

    @pytest.mark.parametrize(("kind", "state"), [("vanish", "vanished"), ("expire", "expired")])
    def test_a_sandbox_is_gone_on_demand(self, sandbox: Sandbox, sandboxes: Server, kind: str, state: str) -> None:
        sandboxes.plan(kind, sandbox_id=sandbox.sandbox_id)
        assert sandboxes.states()[sandbox.sandbox_id] == state
        with pytest.raises(TimeoutException, match="was not found"):
            sandbox.run_code("1")
        with pytest.raises(SandboxNotFoundException):
            sandbox.connect(timeout=60)

    def test_a_sandbox_is_paused_on_demand(self, sandbox: Sandbox, sandboxes: Server) -> None:
        sandbox.run_code("x = 41")
        sandboxes.plan("pause", sandbox_id=sandbox.sandbox_id)
        assert sandbox.get_info().state is SandboxState.PAUSED
        assert sandboxes.states()[sandbox.sandbox_id] == "paused"
        sandbox.connect(timeout=60)
        assert sandbox.run_code("x + 1").text == "42"

    def test_records_tell_metadata_and_state_also_of_a_sandbox_that_is_gone(self, sandboxes: Server) -> None:
        sandbox = Sandbox.create(timeout=60, metadata={"chat": "7"})
        sandbox.kill()
        record = next(r for r in sandboxes.call("GET", "/admin/sandboxes") if r["sandboxID"] == sandbox.sandbox_id)
        assert (record["metadata"], record["state"]) == ({"chat": "7"}, "killed")
