"""`SandboxProvider` in memory, and through E2B's SDK on the local sandbox server."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from sandkeeper.adapters.memory import MemorySandboxProvider
from sandkeeper.errors import FileNotFound
from sandkeeper.model import SandboxRef
from sandkeeper.ports import SandboxGone, SandboxProvider
from tests.contract.sandboxes import (
    FIVE_MINUTES,
    MARK,
    TEN_SECONDS,
    InMemory,
    OnTheLocalServer,
    Pause,
    asked,
    create,
    followed,
    order,
    printed,
    ran,
    spec,
)
from tests.sandbox_server import Server, eventually

PATH = "/home/user/größe 1/data.csv"
NEVER = SandboxRef(sandbox_id="inever0was0there0000", domain=None, envd_version="0.6.7")

USES: dict[str, Callable[[SandboxProvider, SandboxRef], object]] = {
    "prepare": lambda provider, sandbox: provider.prepare(sandbox),
    "run": lambda provider, sandbox: asked(provider, sandbox, order("open('ran', 'w')")),
    "follow": lambda provider, sandbox: followed(provider, sandbox, "run-1"),
    "cancel": lambda provider, sandbox: provider.cancel(sandbox),
    "write_file": lambda provider, sandbox: provider.write_file(sandbox, "/home/user/ran", [b"content"]),
    "read_file": lambda provider, sandbox: [*provider.read_file(sandbox, "/home/user/kept")],
    "delete_file": lambda provider, sandbox: provider.delete_file(sandbox, "/home/user/kept"),
    "packages": lambda provider, sandbox: provider.packages(sandbox),
    "extend": lambda provider, sandbox: provider.extend(sandbox.sandbox_id, FIVE_MINUTES),
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
        assert "hello" in printed(ran(provider, again, "print('hello')"))

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

    # ── Files ───────────────────────────────────────────────────────────────────────────────────────

    def test_deleting_a_file_that_is_not_there_does_nothing(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        provider.delete_file(live, "/home/user/never-there.csv")

    def test_a_file_is_read_as_it_was_written(self, provider: SandboxProvider, live: SandboxRef) -> None:
        content = bytes(range(256)) * 4096
        provider.write_file(live, PATH, [content])

        assert b"".join(provider.read_file(live, PATH)) == content

    @pytest.mark.parametrize("path", ["/home/user/never-there.csv", "/home/user"])
    def test_what_is_no_file_is_told_before_the_first_chunk(
        self, provider: SandboxProvider, live: SandboxRef, path: str
    ) -> None:
        with pytest.raises(FileNotFound):
            provider.read_file(live, path)


class TestInMemory(InMemory, SandboxProviderContract):
    def test_files_outlive_a_pause(self, provider: MemorySandboxProvider, live: SandboxRef, pause: Pause) -> None:
        provider.write_file(live, PATH, [b"con", b"tent"])
        pause(live)

        connect(provider, live)

        assert provider.alive[live.sandbox_id] == {PATH: b"content"}


class TestOnTheLocalServer(OnTheLocalServer, SandboxProviderContract):
    """With real kernels: what the adapter makes of them, too."""

    def test_a_file_is_there_byte_for_byte_and_gone_once_deleted(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        chunks = [b"a,b\n", b"", bytes(range(256)) * 4096]
        provider.write_file(live, PATH, iter(chunks))

        size = ran(provider, live, f"print(len(open({PATH!r}, 'rb').read()))")
        provider.delete_file(live, PATH)
        gone = ran(provider, live, f"import os\nprint(os.path.exists({PATH!r}))")

        assert printed(size) == f"{len(b''.join(chunks))}\n"
        assert printed(gone) == "False\n"

    def test_a_file_of_the_same_path_takes_the_place_of_the_one_before(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        for content in (b"longer content", b"new"):
            provider.write_file(live, "/home/user/same.txt", [content])

        outcome = ran(provider, live, "print(open('same.txt').read())")

        assert printed(outcome) == "new\n"

    # ── Paused: what stays ──────────────────────────────────────────────────────────────────────────

    def test_variables_and_files_outlive_a_pause_and_what_was_refused_has_left_no_trace(
        self, provider: SandboxProvider, live: SandboxRef, pause: Pause
    ) -> None:
        ran(provider, live, "y = 41; open('kept', 'w').write('content')")
        pause(live)
        for use in USES.values():
            with pytest.raises(SandboxGone):
                use(provider, live)

        again = connect(provider, live)

        code = "import os; print(y + 1, open('kept').read(), os.path.exists('ran'))"
        assert printed(ran(provider, again, code)) == "42 content False\n"

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
