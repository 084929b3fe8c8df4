"""`SandboxProvider` in memory, and through E2B's SDK on the local sandbox server."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import pytest

from sandkeeper.adapters.e2b import E2BAccount, E2BSandboxProvider
from sandkeeper.adapters.memory import MemorySandboxProvider
from sandkeeper.errors import CapacityExhausted, SandboxUnavailable
from sandkeeper.model import Display, Raised, RunEnd, SandboxRef, Stream
from sandkeeper.outputs import CHART
from sandkeeper.ports import SandboxGone, SandboxProvider, SandboxSpec
from tests.sandbox_server import Server

TEN_SECONDS = timedelta(seconds=10)
PATH = "/home/user/größe 1/data.csv"


def spec(key: str | None = None) -> SandboxSpec:
    """Returns what asks for a sandbox: for a new one, unless the key has been used."""
    return SandboxSpec(
        idempotency_key=key or f"contract-{uuid4()}",
        lifetime=timedelta(minutes=5),
        metadata={"app": "sandkeeper", "stack": "contract"},
    )


class SandboxProviderContract:
    """The cases; a subclass gives `provider`, and `live`: a sandbox that all tests of the class share."""

    def test_equal_keys_give_one_sandbox(self, provider: SandboxProvider) -> None:
        asked = spec()

        first, second = provider.create(asked), provider.create(asked)

        assert first == second
        provider.kill(first.sandbox_id)

    def test_different_keys_give_sandboxes_of_their_own(self, provider: SandboxProvider, live: SandboxRef) -> None:
        other = provider.create(spec())
        provider.kill(other.sandbox_id)

        assert other.sandbox_id != live.sandbox_id

    def test_a_killed_sandbox_is_gone_and_killing_it_again_does_nothing(self, provider: SandboxProvider) -> None:
        dead = provider.create(spec())
        provider.write_file(dead, PATH, [b"content"])

        provider.kill(dead.sandbox_id)
        provider.kill(dead.sandbox_id)

        with pytest.raises(SandboxGone):
            provider.run(dead, "1", timeout=TEN_SECONDS)
        with pytest.raises(SandboxGone):
            provider.extend(dead.sandbox_id, timedelta(minutes=5))
        with pytest.raises(SandboxGone):
            provider.write_file(dead, PATH, [b"content"])
        with pytest.raises(SandboxGone):
            provider.delete_file(dead, PATH)

    def test_a_sandbox_that_never_was_is_gone(self, provider: SandboxProvider) -> None:
        never = SandboxRef(sandbox_id="inever0was0there0000", domain=None, envd_version="0.2.3")

        provider.kill(never.sandbox_id)
        with pytest.raises(SandboxGone):
            provider.extend(never.sandbox_id, timedelta(minutes=5))
        with pytest.raises(SandboxGone):
            provider.run(never, "1", timeout=TEN_SECONDS)

    def test_a_live_sandbox_may_be_extended(self, provider: SandboxProvider, live: SandboxRef) -> None:
        provider.extend(live.sandbox_id, timedelta(minutes=10))

    def test_code_runs_to_its_end(self, provider: SandboxProvider, live: SandboxRef) -> None:
        outcome = provider.run(live, "print('hello')", timeout=TEN_SECONDS)

        assert outcome.end is RunEnd.FINISHED
        assert "hello" in "".join(output.text for output in outcome.outputs if isinstance(output, Stream))

    def test_deleting_a_file_that_is_not_there_does_nothing(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        provider.delete_file(live, "/home/user/never-there.csv")


class TestInMemory(SandboxProviderContract):
    @pytest.fixture
    def provider(self) -> SandboxProvider:
        return MemorySandboxProvider()

    @pytest.fixture
    def live(self, provider: SandboxProvider) -> SandboxRef:
        return provider.create(spec())


def local(server: Server) -> SandboxProvider:
    """Returns the adapter to E2B, led to the local sandbox server."""
    account = E2BAccount(
        api_key="e2b_" + "0" * 40,
        template="code-interpreter-v1",
        api_url=server.url,
        sandbox_url=server.url,
    )
    return E2BSandboxProvider(lambda: account)


class TestOnTheLocalServer(SandboxProviderContract):
    """With real kernels: what the adapter makes of them, too."""

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, sandbox_server: Server) -> SandboxProvider:
        return local(sandbox_server)

    @pytest.fixture(scope="class")
    @classmethod
    def live(cls, provider: SandboxProvider) -> Iterator[SandboxRef]:
        made = provider.create(spec())
        yield made
        provider.kill(made.sandbox_id)

    def test_variables_survive_from_run_to_run(self, provider: SandboxProvider, live: SandboxRef) -> None:
        provider.run(live, "x = 41", timeout=TEN_SECONDS)

        outcome = provider.run(live, "x + 1", timeout=TEN_SECONDS)

        assert outcome.outputs == [Display({"text/plain": "42"}, is_main_result=True)]

    def test_the_streams_keep_their_order_and_their_names(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        code = "import sys\nprint('out')\nprint('err', file=sys.stderr)"

        outcome = provider.run(live, code, timeout=TEN_SECONDS)

        assert {output.name: output.text for output in outcome.outputs if isinstance(output, Stream)} == {
            "stdout": "out\n",
            "stderr": "err\n",
        }

    def test_what_was_raised_is_an_output_of_a_finished_run(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        outcome = provider.run(live, "print('before')\n1 / 0", timeout=TEN_SECONDS)

        assert outcome.end is RunEnd.FINISHED
        assert Stream("stdout", "before\n") in outcome.outputs
        (raised,) = [output for output in outcome.outputs if isinstance(output, Raised)]
        assert (raised.name, raised.value) == ("ZeroDivisionError", "division by zero")

    def test_a_plot_is_an_image_and_a_chart(self, provider: SandboxProvider, live: SandboxRef) -> None:
        code = "import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2])\nplt.title('t')\nplt.show()"

        outcome = provider.run(live, code, timeout=timedelta(seconds=30))

        (shown,) = [
            output for output in outcome.outputs if isinstance(output, Display) and "image/png" in output.data
        ]
        assert shown.data[CHART]["type"] == "bar"

    def test_the_limit_of_a_run_is_its_own_time_not_a_multiple(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        """The SDK's transport once ended runs at twice their limit. The program itself tells how long it had."""
        provider.run(live, "import time", timeout=TEN_SECONDS)
        code = "begun = time.time()\ntry:\n    time.sleep(60)\nfinally:\n    had_s = time.time() - begun"

        outcome = provider.run(live, code, timeout=timedelta(seconds=4))
        told = provider.run(live, "print(2 < had_s < 7)", timeout=TEN_SECONDS)

        assert outcome.end is RunEnd.TIMEOUT
        assert told.outputs == [Stream("stdout", "True\n")]

    def test_at_its_limit_a_run_gives_what_there_was_and_variables_stay(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        code = "kept = 1\nprint('half')\nimport time\nwhile True: time.sleep(0.05)"

        outcome = provider.run(live, code, timeout=timedelta(seconds=1))

        assert outcome.end is RunEnd.TIMEOUT
        assert outcome.outputs == [Stream("stdout", "half\n")]
        after = provider.run(live, "print(kept)", timeout=TEN_SECONDS)
        assert after.outputs == [Stream("stdout", "1\n")]

    def test_a_file_is_there_byte_for_byte_and_gone_once_deleted(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        chunks = [b"a,b\n", b"", bytes(range(256)) * 4096]
        provider.write_file(live, PATH, iter(chunks))
        digest = f"import hashlib\nprint(len(open({PATH!r}, 'rb').read()))"

        assert provider.run(live, digest, timeout=TEN_SECONDS).outputs == [
            Stream("stdout", f"{len(b''.join(chunks))}\n")
        ]
        provider.delete_file(live, PATH)
        gone = provider.run(live, f"import os\nprint(os.path.exists({PATH!r}))", timeout=TEN_SECONDS)
        assert gone.outputs == [Stream("stdout", "False\n")]

    def test_a_file_of_the_same_path_takes_the_place_of_the_one_before(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        for content in (b"longer content", b"new"):
            provider.write_file(live, "/home/user/same.txt", [content])

        outcome = provider.run(live, "print(open('same.txt').read())", timeout=TEN_SECONDS)

        assert outcome.outputs == [Stream("stdout", "new\n")]

    def test_a_kernel_that_dies_is_told_as_what_was_raised(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        outcome = provider.run(live, "import os\nos._exit(1)", timeout=TEN_SECONDS)

        assert outcome.end is RunEnd.FINISHED
        assert isinstance(outcome.outputs[-1], Raised)
        assert provider.run(live, "1", timeout=TEN_SECONDS).end is RunEnd.FINISHED

    # ── Failures of E2B, on demand ──────────────────────────────────────────────────────────────────

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
        mute = provider.create(spec())
        sandboxes.plan("unreachable", sandbox_id=mute.sandbox_id, times=None)

        with pytest.raises(SandboxUnavailable):
            provider.write_file(mute, PATH, [b"content"])

    def test_a_sandbox_that_vanished_is_gone(self, provider: SandboxProvider, sandboxes: Server) -> None:
        lost = provider.create(spec())
        sandboxes.plan("vanish", sandbox_id=lost.sandbox_id)

        with pytest.raises(SandboxGone):
            provider.run(lost, "1", timeout=TEN_SECONDS)

    @pytest.mark.parametrize("kind", ["rate_limited", "unavailable"])
    def test_an_e2b_without_room_is_told_as_such(
        self, provider: SandboxProvider, sandboxes: Server, kind: str
    ) -> None:
        sandboxes.plan(kind, call="create", times=None)

        with pytest.raises(CapacityExhausted):
            provider.create(spec())

    def test_a_creation_whose_answer_was_lost_made_the_one_sandbox_of_its_key(
        self, provider: SandboxProvider, sandboxes: Server
    ) -> None:
        asked = spec()
        before = sandboxes.states()
        sandboxes.plan("reply_lost", call="create")
        with suppress(SandboxUnavailable):  # unless the SDK has asked again by itself
            provider.create(asked)

        again = provider.create(asked)

        assert sandboxes.states().keys() - before.keys() == {again.sandbox_id}
