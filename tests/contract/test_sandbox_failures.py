"""`SandboxProvider` when E2B or a sandbox fails: through E2B's SDK on the local sandbox server, on demand."""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.errors import CapacityExhausted, SandboxUnavailable
from sandkeeper.model import RunEnd, SandboxRef
from sandkeeper.ports import RunLost, SandboxGone, SandboxProvider
from sandkeeper.runs import Started
from tests.contract.sandboxes import (
    FIVE_MINUTES,
    GOES_ON,
    NO_TIME,
    TEN_SECONDS,
    OnTheLocalServer,
    asked,
    create,
    followed,
    local,
    order,
    outcome_of,
    printed,
    ran,
    spec,
)
from tests.sandbox_server import Server

PATH = "/home/user/data.csv"
SECOND = timedelta(seconds=1)

REQUESTS: dict[str, Callable[[SandboxProvider, SandboxRef], object]] = {
    "write_file": lambda provider, sandbox: provider.write_file(sandbox, PATH, [b"content"]),
    "read_file": lambda provider, sandbox: [*provider.read_file(sandbox, PATH)],
    "prepare": lambda provider, sandbox: provider.prepare(sandbox),
    "follow": lambda provider, sandbox: followed(provider, sandbox, "run-1", wait=SECOND),
    "cancel": lambda provider, sandbox: provider.cancel(sandbox),
    "restart_kernel": lambda provider, sandbox: provider.restart_kernel(sandbox),
}


class TestOnTheLocalServer(OnTheLocalServer):
    """What the adapter makes of failures."""

    # ── Connections that break ──────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("after_bytes", [0, 60, 400, 1200])
    def test_a_connection_that_breaks_during_a_run_is_made_again_and_nothing_is_lost(
        self, provider: SandboxProvider, live: SandboxRef, sandboxes: Server, after_bytes: int
    ) -> None:
        """The order may have been heard or not: it is sent again, and the runner runs no id twice."""
        provider.write_file(live, "/home/user/effects", [b""])
        before = sandboxes.calls()["run"]
        sandboxes.plan("run_dropped", sandbox_id=live.sandbox_id, after_bytes=after_bytes, times=3)
        code = "print('once', file=open('effects', 'a'))\nfor line in range(30): print(line, 'x' * 50, flush=True)"

        outcome = ran(provider, live, code)

        sandboxes.call("DELETE", "/admin/faults")
        assert sandboxes.calls()["run"] > before + 1
        assert outcome.end is RunEnd.FINISHED
        assert printed(outcome) == "".join(f"{line} {'x' * 50}\n" for line in range(30))
        assert printed(ran(provider, live, "print(open('effects').read(), end='')")) == "once\n"

    def test_connections_that_break_again_and_again_are_made_again_as_long_as_they_bring_something(
        self, provider: SandboxProvider, live: SandboxRef, sandboxes: Server
    ) -> None:
        """Every answer is cut off behind its first event or two: the run is put together from what each brings."""
        sandboxes.plan("run_dropped", sandbox_id=live.sandbox_id, after_bytes=900, times=None)
        code = "import time\nfor line in range(6): print(line, 'x' * 500, flush=True); time.sleep(0.1)"

        outcome = ran(provider, live, code)

        assert outcome.end is RunEnd.FINISHED
        assert [line[0] for line in printed(outcome).splitlines()] == [*"012345"]

    # ── Sandboxes that do not answer ────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("name", REQUESTS)
    def test_a_sandbox_that_does_not_answer_is_not_taken_for_gone(
        self, provider: SandboxProvider, live: SandboxRef, sandboxes: Server, name: str
    ) -> None:
        sandboxes.plan("unreachable", sandbox_id=live.sandbox_id, times=None)

        with pytest.raises(SandboxUnavailable):
            REQUESTS[name](provider, live)

    def test_of_an_order_that_may_have_been_heard_nothing_is_said(
        self, provider: SandboxProvider, live: SandboxRef, sandboxes: Server
    ) -> None:
        """It must not be taken for one that can be sent elsewhere."""
        sandboxes.plan("unreachable", sandbox_id=live.sandbox_id, times=None)

        assert asked(provider, live, order("1"), wait=SECOND) == []

    def test_an_order_that_has_surely_not_been_heard_is_told_as_such(
        self, live: SandboxRef, sandbox_server: Server
    ) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # and nobody listens
            nowhere = local(replace(sandbox_server, url=f"http://127.0.0.1:{closed.getsockname()[1]}"))

            with pytest.raises(SandboxUnavailable):
                asked(nowhere, live, order("1"), wait=SECOND)

    def test_a_sandbox_that_answers_again_in_time_has_run_the_code(
        self, provider: SandboxProvider, live: SandboxRef, sandboxes: Server
    ) -> None:
        sandboxes.plan("unreachable", sandbox_id=live.sandbox_id, times=3)

        assert printed(ran(provider, live, "print('hello')")) == "hello\n"

    # ── Sandboxes that are gone ─────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("kind", ["vanish", "expire", "pause"])
    def test_in_a_sandbox_that_is_gone_no_run_has_begun(
        self, provider: SandboxProvider, sandboxes: Server, kind: str
    ) -> None:
        lost = create(provider)
        sandboxes.plan(kind, sandbox_id=lost.sandbox_id)

        with pytest.raises(SandboxGone) as gone:
            asked(provider, lost, order("1"))

        assert not isinstance(gone.value, RunLost)

    @pytest.mark.parametrize("kind", ["vanish", "expire", "pause"])
    def test_whether_a_run_has_begun_in_a_sandbox_that_goes_during_it_nobody_knows(
        self, provider: SandboxProvider, sandboxes: Server, kind: str
    ) -> None:
        lost = create(provider)
        events = provider.run(lost, order(GOES_ON), wait=TEN_SECONDS)
        next(events)
        sandboxes.plan(kind, sandbox_id=lost.sandbox_id)

        with pytest.raises(RunLost):
            list(events)

    def test_whoever_follows_a_run_in_a_sandbox_that_goes_is_told(
        self, provider: SandboxProvider, sandboxes: Server
    ) -> None:
        lost, wanted = create(provider), order(GOES_ON)
        asked(provider, lost, wanted, wait=NO_TIME)
        events = provider.follow(lost, wanted.run_id, after=0, wait=TEN_SECONDS)
        next(events)
        sandboxes.plan("vanish", sandbox_id=lost.sandbox_id)

        with pytest.raises(SandboxGone):
            list(events)

    def test_a_run_that_is_paused_goes_on_with_its_sandbox(
        self, provider: SandboxProvider, live: SandboxRef, sandboxes: Server
    ) -> None:
        wanted = order("import time\nfor number in range(5): print(number, flush=True); time.sleep(0.2)")
        events = provider.run(live, wanted, wait=TEN_SECONDS)
        heard = [next(events) for _ in range(3)]
        sandboxes.plan("pause", sandbox_id=live.sandbox_id)
        with pytest.raises(RunLost):
            heard += events

        again = provider.connect(live.sandbox_id, FIVE_MINUTES, within=TEN_SECONDS)

        told = followed(provider, again, wanted.run_id)
        assert told[: len(heard)] == heard
        assert printed(outcome_of(told)) == "0\n1\n2\n3\n4\n"
        assert len([event for event in told if isinstance(event.what, Started)]) == 1

    # ── The control plane ───────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("kind", ["rate_limited", "unavailable"])
    def test_an_e2b_without_room_is_told_as_such(
        self, provider: SandboxProvider, sandboxes: Server, kind: str
    ) -> None:
        sandboxes.plan(kind, call="create", times=None)

        with pytest.raises(CapacityExhausted):
            create(provider)

    def test_a_call_that_takes_longer_than_it_may_is_given_up(
        self, provider: SandboxProvider, sandboxes: Server
    ) -> None:
        """The SDK waits for twice as long as it is told to: given the whole limit it would have got its answer."""
        slow = create(provider)
        sandboxes.plan("slow", call="connect", delay_ms=1500, times=None)

        with pytest.raises(SandboxUnavailable):
            provider.connect(slow.sandbox_id, timedelta(seconds=60), within=timedelta(seconds=1))

    def test_a_creation_whose_answer_was_lost_made_the_one_sandbox_of_its_key(
        self, provider: SandboxProvider, sandboxes: Server
    ) -> None:
        wanted = spec()
        before = sandboxes.states()
        sandboxes.plan("reply_lost", call="create")
        with suppress(SandboxUnavailable):  # unless the SDK has asked again by itself
            create(provider, wanted)

        again = create(provider, wanted)

        assert sandboxes.states().keys() - before.keys() == {again.sandbox_id}
