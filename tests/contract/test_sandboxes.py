"""`SandboxProvider` in memory, and through E2B's SDK on the local sandbox server."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from e2b_code_interpreter import Sandbox

from sandkeeper.adapters.memory import MemorySandboxProvider
from sandkeeper.model import Display, Raised, RunEnd, SandboxRef, Stream
from sandkeeper.outputs import CHART
from sandkeeper.ports import SandboxGone, SandboxProvider
from tests.contract.sandboxes import (
    FIVE_MINUTES,
    MARK,
    TEN_SECONDS,
    InMemory,
    OnTheLocalServer,
    Pause,
    create,
    printed,
    spec,
)
from tests.sandbox_server import Server, eventually

PATH = "/home/user/größe 1/data.csv"
NEVER = SandboxRef(sandbox_id="inever0was0there0000", domain=None, envd_version="0.6.7")

USES: dict[str, Callable[[SandboxProvider, SandboxRef], object]] = {
    "run": lambda provider, sandbox: provider.run(sandbox, "open('ran', 'w')", timeout=TEN_SECONDS),
    "write_file": lambda provider, sandbox: provider.write_file(sandbox, "/home/user/ran", [b"content"]),
    "delete_file": lambda provider, sandbox: provider.delete_file(sandbox, "/home/user/kept"),
    "extend": lambda provider, sandbox: provider.extend(sandbox.sandbox_id, FIVE_MINUTES),
    "interrupt": lambda provider, sandbox: provider.interrupt(sandbox),
    "restart_kernel": lambda provider, sandbox: provider.restart_kernel(sandbox),
}
"""What can be done in a running sandbox."""


def connect(provider: SandboxProvider, sandbox: SandboxRef, lifetime: timedelta = FIVE_MINUTES) -> SandboxRef:
    """Returns the sandbox's coordinates, once it runs."""
    return provider.connect(sandbox.sandbox_id, lifetime, within=TEN_SECONDS)


class SandboxProviderContract:
    """The cases; a subclass gives `provider`, `pause`, and `live`: a sandbox that tests may share."""

    @pytest.fixture
    def paused(self, provider: SandboxProvider, live: SandboxRef, pause: Pause) -> Iterator[SandboxRef]:
        """The shared sandbox, which has the file `kept`; paused for this test."""
        provider.write_file(live, "/home/user/kept", [b"content"])
        pause(live)
        yield live
        connect(provider, live)

    # ── Made, and gone ──────────────────────────────────────────────────────────────────────────────

    def test_equal_specs_give_one_sandbox_and_another_lifetime_gives_another(
        self, provider: SandboxProvider
    ) -> None:
        asked = spec()

        first, second = create(provider, asked), create(provider, asked)
        longer = create(provider, spec(asked.idempotency_key, lifetime=2 * FIVE_MINUTES))

        assert first == second
        assert longer.sandbox_id != first.sandbox_id
        for made in (first, longer):
            provider.kill(made.sandbox_id)

    def test_different_keys_give_sandboxes_of_their_own(self, provider: SandboxProvider, live: SandboxRef) -> None:
        other = create(provider)
        provider.kill(other.sandbox_id)

        assert other.sandbox_id != live.sandbox_id

    def test_a_killed_sandbox_is_gone_and_killing_it_again_does_nothing(self, provider: SandboxProvider) -> None:
        dead = create(provider)
        provider.write_file(dead, PATH, [b"content"])

        provider.kill(dead.sandbox_id)
        provider.kill(dead.sandbox_id)

        for use in USES.values():
            with pytest.raises(SandboxGone):
                use(provider, dead)
        with pytest.raises(SandboxGone):
            connect(provider, dead)

    def test_a_sandbox_that_never_was_is_gone(self, provider: SandboxProvider) -> None:
        provider.kill(NEVER.sandbox_id)

        for use in USES.values():
            with pytest.raises(SandboxGone):
                use(provider, NEVER)
        with pytest.raises(SandboxGone):
            connect(provider, NEVER)

    def test_a_live_sandbox_may_be_extended(self, provider: SandboxProvider, live: SandboxRef) -> None:
        provider.extend(live.sandbox_id, timedelta(minutes=10))

    # ── Paused ──────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("name", USES)
    def test_nothing_can_be_done_in_a_paused_sandbox(
        self, provider: SandboxProvider, paused: SandboxRef, name: str
    ) -> None:
        with pytest.raises(SandboxGone):
            USES[name](provider, paused)

    def test_a_paused_sandbox_runs_again_once_connected_to(
        self, provider: SandboxProvider, paused: SandboxRef
    ) -> None:
        again = connect(provider, paused)

        assert again.sandbox_id == paused.sandbox_id
        assert "hello" in printed(provider.run(again, "print('hello')", timeout=TEN_SECONDS))

    def test_connecting_to_a_running_sandbox_gives_its_coordinates(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        assert connect(provider, live) == live

    def test_a_paused_sandbox_can_be_killed(self, provider: SandboxProvider, pause: Pause) -> None:
        asleep = create(provider)
        pause(asleep)

        provider.kill(asleep.sandbox_id)

        with pytest.raises(SandboxGone):
            connect(provider, asleep)

    # ── Listed ──────────────────────────────────────────────────────────────────────────────────────

    def test_sandboxes_are_listed_page_by_page_those_made_first_come_first(
        self, provider: SandboxProvider, live: SandboxRef, pause: Pause
    ) -> None:
        mark = {**MARK, "stack": f"listed-{uuid4()}"}
        made = [create(provider, spec(metadata={**mark, "claim": f"claim-{number}"})) for number in range(3)]
        pause(made[1])

        first = provider.page(mark, limit=2)
        rest = provider.page(mark, limit=2, token=first.token)

        listed = [*first.sandboxes, *rest.sandboxes]
        assert [found.sandbox_id for found in listed] == [sandbox.sandbox_id for sandbox in made]
        assert [found.metadata["claim"] for found in listed] == ["claim-0", "claim-1", "claim-2"]
        assert [found.started_at for found in listed] == sorted(found.started_at for found in listed)
        assert all(found.started_at.tzinfo for found in listed)
        assert (len(first.sandboxes), rest.token) == (2, None)
        (one,) = provider.page({**mark, "claim": "claim-2"}, limit=2).sandboxes
        assert one.sandbox_id == made[2].sandbox_id

        for sandbox in made:
            provider.kill(sandbox.sandbox_id)
        assert provider.page(mark, limit=2).sandboxes == []
        assert provider.page(mark, limit=2).token is None

    # ── Running code ────────────────────────────────────────────────────────────────────────────────

    def test_code_runs_to_its_end(self, provider: SandboxProvider, live: SandboxRef) -> None:
        outcome = provider.run(live, "print('hello')", timeout=TEN_SECONDS)

        assert outcome.end is RunEnd.FINISHED
        assert "hello" in printed(outcome)

    def test_an_idle_kernel_may_be_interrupted_and_restarted(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        for use in (provider.interrupt, provider.restart_kernel, provider.interrupt):
            use(live)

            outcome = provider.run(live, "print('hello')", timeout=TEN_SECONDS)
            assert [type(output) for output in outcome.outputs] == [Stream]

    def test_deleting_a_file_that_is_not_there_does_nothing(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        provider.delete_file(live, "/home/user/never-there.csv")


class TestInMemory(InMemory, SandboxProviderContract):
    def test_files_outlive_a_pause(self, provider: MemorySandboxProvider, live: SandboxRef, pause: Pause) -> None:
        provider.write_file(live, PATH, [b"con", b"tent"])
        pause(live)

        connect(provider, live)

        assert provider.alive[live.sandbox_id] == {PATH: b"content"}


class TestOnTheLocalServer(OnTheLocalServer, SandboxProviderContract):
    """With real kernels: what the adapter makes of them, too."""

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

    def test_a_kernel_that_dies_ends_the_run_and_starts_again(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        code = "import os, time; print('half'); time.sleep(1); os._exit(1)"
        outcome = provider.run(live, code, timeout=TEN_SECONDS)

        assert (outcome.outputs, outcome.end) == ([Stream("stdout", "half\n")], RunEnd.KERNEL_DIED)
        assert provider.run(live, "1", timeout=TEN_SECONDS).end is RunEnd.FINISHED

    def test_the_kernel_numbers_its_runs_and_begins_again_when_it_is_replaced(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        first = provider.run(live, "1", timeout=TEN_SECONDS).execution_count
        second = provider.run(live, "1 / 0", timeout=TEN_SECONDS).execution_count
        assert first is not None
        assert second == first + 1

        provider.restart_kernel(live)
        assert provider.run(live, "1", timeout=TEN_SECONDS).execution_count == 1

    # ── Paused, interrupted, restarted: what stays ──────────────────────────────────────────────────

    def test_variables_and_files_outlive_a_pause_and_what_was_refused_has_left_no_trace(
        self, provider: SandboxProvider, live: SandboxRef, pause: Pause
    ) -> None:
        provider.run(live, "y = 41; open('kept', 'w').write('content')", timeout=TEN_SECONDS)
        pause(live)
        for use in USES.values():
            with pytest.raises(SandboxGone):
                use(provider, live)

        again = connect(provider, live)

        code = "import os; print(y + 1, open('kept').read(), os.path.exists('ran'))"
        assert printed(provider.run(again, code, timeout=TEN_SECONDS)) == "42 content False\n"

    def test_at_the_end_of_its_lifetime_a_sandbox_is_paused_or_ended_as_asked_for(
        self, provider: SandboxProvider, sandboxes: Server
    ) -> None:
        second = timedelta(seconds=1)
        pausing, ending = (create(provider, spec(lifetime=second, pauses=pauses)) for pauses in (True, False))

        eventually(lambda: sandboxes.states()[ending.sandbox_id] == "expired")
        eventually(lambda: sandboxes.states()[pausing.sandbox_id] == "paused")

        connect(provider, pausing)
        with pytest.raises(SandboxGone):
            connect(provider, ending)

    def test_connecting_puts_a_deadline_off_and_never_brings_it_nearer(
        self, provider: SandboxProvider, live: SandboxRef, sandboxes: Server
    ) -> None:
        def ends_at() -> str:
            told: str = sandboxes.call("GET", f"/sandboxes/{live.sandbox_id}")["endAt"]
            return told

        before = ends_at()
        connect(provider, live, timedelta(seconds=30))
        assert ends_at() == before
        connect(provider, live, timedelta(minutes=30))
        assert ends_at() > before

    def test_an_interrupted_run_ends_with_what_there_was_and_variables_stay(
        self, provider: SandboxProvider, live: SandboxRef, sandboxes: Server
    ) -> None:
        with ThreadPoolExecutor(1) as threads:
            code = "z = 1; print('half'); open('begun', 'w'); import time; time.sleep(60)"
            running = threads.submit(provider.run, live, code, timeout=timedelta(seconds=30))
            eventually(lambda: Sandbox.connect(live.sandbox_id, timeout=60).files.exists("begun"))
            provider.interrupt(live)
            outcome = running.result()

        assert outcome.end is RunEnd.FINISHED
        assert outcome.outputs[0] == Stream("stdout", "half\n")
        assert isinstance(raised := outcome.outputs[-1], Raised)
        assert raised.name == "KeyboardInterrupt"
        assert printed(provider.run(live, "print(z)", timeout=TEN_SECONDS)) == "1\n"

    def test_a_restart_ends_what_is_running_loses_variables_and_keeps_files(
        self, provider: SandboxProvider, live: SandboxRef, sandboxes: Server
    ) -> None:
        with ThreadPoolExecutor(1) as threads:
            code = "w = 1; open('running', 'w').write('x'); import time; time.sleep(60)"
            running = threads.submit(provider.run, live, code, timeout=timedelta(seconds=30))
            eventually(lambda: Sandbox.connect(live.sandbox_id, timeout=60).files.exists("running"))
            provider.restart_kernel(live)
            outcome = running.result()

        assert (outcome.outputs, outcome.end) == ([], RunEnd.KERNEL_DIED)
        code = "print('w' in globals(), open('running').read())"
        assert printed(provider.run(live, code, timeout=TEN_SECONDS)) == "False x\n"
