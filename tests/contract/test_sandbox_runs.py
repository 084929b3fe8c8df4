"""`SandboxProvider`: runs, in memory, and in real kernels through the runner on the local sandbox server."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from sandkeeper.model import EndReason, RunEnd, SandboxRef, Stream
from sandkeeper.ports import RunUnknown, SandboxProvider
from sandkeeper.runs import Accepted, Cancelled, Ended, Started
from tests.contract.sandboxes import (
    FIVE_MINUTES,
    GOES_ON,
    NO_TIME,
    TEN_SECONDS,
    InMemory,
    OnTheLocalServer,
    Pause,
    asked,
    create,
    followed,
    order,
    outcome_of,
    printed,
    ran,
    started,
)


class RunContract:
    """The cases; a subclass gives `provider`, `pause`, and `live`: a sandbox that tests may share."""

    def test_code_runs_to_its_end(self, provider: SandboxProvider, live: SandboxRef) -> None:
        outcome = ran(provider, live, "print('hello')")

        assert outcome.end is RunEnd.FINISHED
        assert "hello" in printed(outcome)

    def test_a_run_is_told_from_its_order_to_its_end_in_events_that_are_numbered(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        """A busy kernel may tell one line in two pieces."""
        wanted = order("print('größe')")

        events = asked(provider, live, wanted)

        assert [event.number for event in events] == [*range(1, len(events) + 1)]
        assert events[0].what == Accepted(wanted.code, wanted.context)
        assert events[1].what == Started()
        assert events[2:-1]
        assert all(isinstance(event.what, Stream) for event in events[2:-1])
        assert events[-1].what == Ended(RunEnd.FINISHED)
        assert [event.at for event in events] == sorted(event.at for event in events)

    def test_one_id_is_run_once_however_often_it_is_asked_for(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        wanted = order("print('once')")

        told = [asked(provider, live, wanted) for _ in range(3)]

        assert told[0] == told[1] == told[2]

    def test_one_id_is_run_once_also_when_many_ask_for_it_at_once(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        wanted = order(GOES_ON)
        with ThreadPoolExecutor(8) as threads:
            told = [*threads.map(lambda _: asked(provider, live, wanted, wait=NO_TIME), range(8))]

        provider.cancel(live, wanted.run_id)

        events = followed(provider, live, wanted.run_id)
        assert all(found == events[: len(found)] for found in told)
        assert len([event for event in events if isinstance(event.what, Started)]) == 1

    # ── Listened to, or not ─────────────────────────────────────────────────────────────────────────

    def test_a_run_goes_on_when_its_call_has_no_more_time(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        wanted = order(GOES_ON)

        heard = asked(provider, live, wanted, wait=timedelta(seconds=1))
        assert [type(event.what) for event in heard[:2]] == [Accepted, Started]
        assert not isinstance(heard[-1].what, Ended)
        provider.cancel(live, wanted.run_id)

        rest = followed(provider, live, wanted.run_id, after=heard[-1].number)
        assert outcome_of([*heard, *rest]).end is RunEnd.CANCELLED

    def test_a_run_is_followed_from_any_of_its_numbers_on(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        wanted = order("print('hello')")
        events = asked(provider, live, wanted)

        for number in range(len(events) + 2):
            assert followed(provider, live, wanted.run_id, after=number) == events[number:]

    def test_a_run_that_goes_on_is_told_as_far_as_it_has_come(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        wanted = order(GOES_ON)
        heard = asked(provider, live, wanted, wait=timedelta(seconds=1))

        assert followed(provider, live, wanted.run_id, wait=NO_TIME)[: len(heard)] == heard
        assert asked(provider, live, wanted, wait=NO_TIME)[: len(heard)] == heard
        assert followed(provider, live, wanted.run_id, after=99, wait=NO_TIME) == []
        provider.cancel(live)

    def test_what_was_never_asked_for_is_not_known(self, provider: SandboxProvider, live: SandboxRef) -> None:
        ran(provider, live, "1")

        with pytest.raises(RunUnknown):
            followed(provider, live, "run-1")
        with pytest.raises(RunUnknown):
            provider.cancel(live, "run-1")

    def test_a_run_is_not_known_in_another_sandbox(self, provider: SandboxProvider, live: SandboxRef) -> None:
        wanted = order("1")
        asked(provider, live, wanted)
        other = create(provider)

        with pytest.raises(RunUnknown):
            followed(provider, other, wanted.run_id)
        provider.kill(other.sandbox_id)

    def test_an_end_is_told_after_a_pause_too(
        self, provider: SandboxProvider, live: SandboxRef, pause: Pause
    ) -> None:
        wanted = order("print('hello')")
        events = asked(provider, live, wanted)
        pause(live)

        again = provider.connect(live.sandbox_id, FIVE_MINUTES, within=TEN_SECONDS)

        assert followed(provider, again, wanted.run_id) == events
        assert asked(provider, again, wanted) == events

    # ── Stopped, restarted ──────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("is_named", [True, False])
    def test_a_run_that_is_cancelled_has_ended(
        self, provider: SandboxProvider, live: SandboxRef, is_named: bool
    ) -> None:
        wanted = order(GOES_ON)
        asked(provider, live, wanted, wait=timedelta(seconds=1))

        cancelled = provider.cancel(live, wanted.run_id if is_named else None)

        assert cancelled == Cancelled(found=True, ended=True)
        events = followed(provider, live, wanted.run_id, wait=NO_TIME)
        assert outcome_of(events).end is RunEnd.CANCELLED

    def test_what_has_ended_is_not_cancelled_any_more(self, provider: SandboxProvider, live: SandboxRef) -> None:
        wanted = order("print('hello')")
        events = asked(provider, live, wanted)

        for run_id in (wanted.run_id, None):
            assert provider.cancel(live, run_id) == Cancelled(found=False, ended=True)

        assert followed(provider, live, wanted.run_id) == events

    def test_a_sandbox_in_which_nothing_has_run_may_be_prepared_restarted_and_told_to_stop(
        self, provider: SandboxProvider
    ) -> None:
        for use in (provider.prepare, provider.restart_kernel, provider.cancel):
            fresh = create(provider)
            use(fresh)
            provider.prepare(fresh)

            assert ran(provider, fresh, "print('hello')").end is RunEnd.FINISHED
            provider.kill(fresh.sandbox_id)

    def test_a_restart_is_told_by_the_run_that_comes_next_and_by_no_other(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        ran(provider, live, "print('hello')")

        for _ in range(2):
            provider.restart_kernel(live)

        told = [started(asked(provider, live, order("print('hello')"))) for _ in range(2)]
        assert told == [Started(EndReason.RESTARTED), Started()]

    def test_a_restart_ends_what_is_running_and_is_told_by_the_next_run(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        wanted = order(GOES_ON)
        asked(provider, live, wanted, wait=timedelta(seconds=1))

        provider.restart_kernel(live)

        assert outcome_of(followed(provider, live, wanted.run_id)).end is RunEnd.KERNEL_DIED
        told = [started(asked(provider, live, order("print('hello')"))) for _ in range(2)]
        assert told == [Started(EndReason.RESTARTED), Started()]


class TestInMemory(InMemory, RunContract):
    pass


class TestOnTheLocalServer(OnTheLocalServer, RunContract):
    pass
