"""`SandboxProvider` when E2B or a sandbox fails: through E2B's SDK on the local sandbox server, on demand."""

from contextlib import suppress
from datetime import timedelta

import pytest

from sandkeeper.errors import CapacityExhausted, SandboxUnavailable
from sandkeeper.model import RunEnd, SandboxRef
from sandkeeper.ports import SandboxGone, SandboxProvider
from tests.contract.sandboxes import TEN_SECONDS, OnTheLocalServer, create, spec
from tests.sandbox_server import Server

PATH = "/home/user/data.csv"


class TestOnTheLocalServer(OnTheLocalServer):
    """What the adapter makes of failures."""

    @pytest.mark.parametrize("after_bytes", [0, 60])
    def test_a_connection_that_breaks_during_a_run_ends_the_run(
        self, provider: SandboxProvider, live: SandboxRef, sandboxes: Server, after_bytes: int
    ) -> None:
        """The code may have run to its end: it must not be taken for one that can be repeated."""
        sandboxes.plan("run_dropped", sandbox_id=live.sandbox_id, after_bytes=after_bytes)

        assert provider.run(live, "print('x' * 1000)", timeout=TEN_SECONDS).end is RunEnd.SANDBOX_LOST

    def test_a_sandbox_that_does_not_answer_is_not_taken_for_gone(
        self, provider: SandboxProvider, sandboxes: Server
    ) -> None:
        mute = create(provider)
        sandboxes.plan("unreachable", sandbox_id=mute.sandbox_id, times=None)

        with pytest.raises(SandboxUnavailable):
            provider.write_file(mute, PATH, [b"content"])

    def test_a_sandbox_that_vanished_is_gone(self, provider: SandboxProvider, sandboxes: Server) -> None:
        lost = create(provider)
        sandboxes.plan("vanish", sandbox_id=lost.sandbox_id)

        with pytest.raises(SandboxGone):
            provider.run(lost, "1", timeout=TEN_SECONDS)

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
        asked = spec()
        before = sandboxes.states()
        sandboxes.plan("reply_lost", call="create")
        with suppress(SandboxUnavailable):  # unless the SDK has asked again by itself
            create(provider, asked)

        again = create(provider, asked)

        assert sandboxes.states().keys() - before.keys() == {again.sandbox_id}
