"""`SandboxProvider` with real kernels: what code gives, its limits, and what stays when it is stopped."""

from datetime import timedelta
from itertools import pairwise
from urllib.error import HTTPError

import pytest

from sandkeeper.model import Display, EndReason, Raised, RunEnd, RunOutcome, SandboxRef, Stream
from sandkeeper.outputs import CHART
from sandkeeper.ports import SandboxProvider
from sandkeeper.runs import Accepted, Cancelled, Ended, Started
from tests.contract.sandboxes import (
    GOES_ON,
    NO_TIME,
    TEN_SECONDS,
    OnTheLocalServer,
    asked,
    followed,
    only,
    order,
    outcome_of,
    printed,
    ran,
    started,
)
from tests.sandbox_server import Server


class TestOnTheLocalServer(OnTheLocalServer):
    """With real kernels: what the adapter and the runner make of them, too."""

    def test_variables_survive_from_run_to_run(self, provider: SandboxProvider, live: SandboxRef) -> None:
        ran(provider, live, "x = 41")

        assert ran(provider, live, "x + 1").outputs == [Display({"text/plain": "42"}, is_main_result=True)]

    def test_the_streams_keep_their_order_and_their_names(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        outcome = ran(provider, live, "import sys\nprint('out')\nprint('err', file=sys.stderr)")

        assert (printed(outcome), printed(outcome, "stderr")) == ("out\n", "err\n")

    def test_what_was_raised_is_an_output_of_a_finished_run(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        outcome = ran(provider, live, "print('before')\n1 / 0")

        assert outcome.end is RunEnd.FINISHED
        assert printed(outcome) == "before\n"
        raised = only([output for output in outcome.outputs if isinstance(output, Raised)])
        assert (raised.name, raised.value) == ("ZeroDivisionError", "division by zero")

    def test_a_plot_is_an_image_and_a_chart(self, provider: SandboxProvider, live: SandboxRef) -> None:
        code = "import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2])\nplt.title('t')\nplt.show()"

        outcome = ran(provider, live, code, limit=timedelta(seconds=30))

        shown = only(
            [output for output in outcome.outputs if isinstance(output, Display) and "image/png" in output.data]
        )
        assert shown.data[CHART]["type"] == "bar"

    def test_code_that_was_asked_for_thrice_has_had_its_effect_once(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        wanted = order("print('once', file=open('effects', 'a'))")

        for _ in range(3):
            asked(provider, live, wanted)

        assert printed(ran(provider, live, "print(open('effects').read())")) == "once\n\n"

    def test_runs_take_turns_in_the_order_in_which_they_were_asked_for(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        orders = [order(f"import time\ntime.sleep(0.2)\nprint({number})") for number in range(3)]
        for wanted in orders:
            asked(provider, live, wanted, wait=NO_TIME)

        told = [followed(provider, live, wanted.run_id) for wanted in orders]

        assert [printed(outcome_of(events)) for events in told] == ["0\n", "1\n", "2\n"]
        for before, after in pairwise(told):
            begun = only([event.at for event in after if isinstance(event.what, Started)])
            assert begun >= before[-1].at

    # ── Limits ──────────────────────────────────────────────────────────────────────────────────────

    def test_the_limit_of_a_run_is_its_own_time_not_a_multiple(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        """The SDK's transport once ended runs at twice their limit. The program itself tells how long it had."""
        ran(provider, live, "import time")
        code = "begun = time.time()\ntry:\n    time.sleep(60)\nfinally:\n    had_s = time.time() - begun"

        outcome = ran(provider, live, code, limit=timedelta(seconds=4))

        assert outcome.end is RunEnd.TIMEOUT
        assert printed(ran(provider, live, "print(2 < had_s < 7)")) == "True\n"

    def test_at_its_limit_a_run_gives_what_there_was_and_variables_stay(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        outcome = ran(provider, live, f"kept = 1\n{GOES_ON}", limit=timedelta(seconds=1))

        assert outcome.end is RunEnd.TIMEOUT
        assert printed(outcome) == "half\n"
        assert printed(ran(provider, live, "print(kept)")) == "1\n"

    def test_a_run_ends_at_its_limit_also_when_nobody_listens(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        wanted = order(GOES_ON, limit=timedelta(seconds=1))
        asked(provider, live, wanted, wait=NO_TIME)

        assert outcome_of(followed(provider, live, wanted.run_id)).end is RunEnd.TIMEOUT

    def test_a_run_that_puts_out_more_than_it_may_is_ended_and_variables_stay(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        wanted = order(f"kept = 2\nprint('x' * 5000)\n{GOES_ON}", output_bytes=1000)

        outcome = outcome_of(asked(provider, live, wanted))

        assert outcome.end is RunEnd.OUTPUT_LIMIT
        assert printed(outcome) == "x" * 1000
        assert printed(ran(provider, live, "print(kept)")) == "2\n"

    def test_what_is_displayed_has_a_bound_of_its_own_and_what_goes_beyond_is_not_told(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        code = f"kept = 2\nprint('x' * 900)\ndisplay('y' * 100)\ndisplay('z' * 5000)\n{GOES_ON}"
        wanted = order(code, output_bytes=1000, display_bytes=2000)

        outcome = outcome_of(asked(provider, live, wanted))

        assert outcome.end is RunEnd.OUTPUT_LIMIT
        assert printed(outcome).startswith("x" * 900)
        shown = [output.data["text/plain"] for output in outcome.outputs if isinstance(output, Display)]
        assert shown == ["y" * 100]
        assert printed(ran(provider, live, "print(kept)")) == "2\n"

    # ── Stopped, restarted, dead: what stays ────────────────────────────────────────────────────────

    def test_a_cancelled_run_gives_what_there_was_and_variables_stay(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        wanted = order(f"z = 1\n{GOES_ON}")
        events = provider.run(live, wanted, wait=TEN_SECONDS)
        heard = [next(events) for _ in range(3)]
        assert isinstance(heard[-1].what, Stream)

        provider.cancel(live, wanted.run_id)

        outcome = outcome_of([*heard, *events])
        assert (outcome.end, printed(outcome)) == (RunEnd.CANCELLED, "half\n")
        assert [output.name for output in outcome.outputs[1:] if isinstance(output, Raised)] == [
            "KeyboardInterrupt"
        ]
        assert printed(ran(provider, live, "print(z)")) == "1\n"

    def test_a_run_that_waits_for_its_turn_is_cancelled_before_it_begins(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        orders = [order(GOES_ON), order("open('never', 'w')")]
        for wanted in orders:
            asked(provider, live, wanted, wait=NO_TIME)

        assert provider.cancel(live, orders[1].run_id) == Cancelled(found=True, ended=True)
        provider.cancel(live, orders[0].run_id)

        events = followed(provider, live, orders[1].run_id)
        assert [type(event.what) for event in events] == [Accepted, Ended]
        assert outcome_of(events) == RunOutcome([], RunEnd.CANCELLED)
        assert printed(ran(provider, live, "import os; print(os.path.exists('never'))")) == "False\n"

    def test_a_restart_loses_variables_and_keeps_files(self, provider: SandboxProvider, live: SandboxRef) -> None:
        ran(provider, live, "w = 1; open('kept', 'w').write('x')")

        provider.restart_kernel(live)

        assert printed(ran(provider, live, "print('w' in globals(), open('kept').read())")) == "False x\n"

    def test_a_kernel_that_dies_ends_the_run_and_the_next_one_is_told(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        outcome = ran(provider, live, "import os, time; print('half'); time.sleep(1); os._exit(1)")

        assert (printed(outcome), outcome.end) == ("half\n", RunEnd.KERNEL_DIED)
        told = [started(asked(provider, live, order("1"))) for _ in range(2)]
        assert told == [Started(EndReason.KERNEL_DIED), Started()]

    # ── Who may ─────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize(("token", "status"), [(None, 403), ("guessed", 403), ("right", 401)])
    def test_nobody_else_reaches_a_sandboxs_runner(
        self, provider: SandboxProvider, live: SandboxRef, sandboxes: Server, token: str | None, status: int
    ) -> None:
        """Neither without E2B's token for the sandbox's traffic, nor with that alone: code has no other's token."""
        ran(provider, live, "1")
        headers = {"E2b-Sandbox-Id": live.sandbox_id, "E2b-Sandbox-Port": "49990"}
        if token is not None:
            told = live.traffic_token or "" if token == "right" else token
            headers["E2B-Traffic-Access-Token"] = told

        with pytest.raises(HTTPError) as refused:
            sandboxes.call("POST", "/cancel", **headers)

        with refused.value as reply:
            assert reply.code == status
