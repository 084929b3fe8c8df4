"""What a caller sees when a sandbox, or E2B, is not there: over HTTP, with failures of E2B on demand.

State is never lost without a word, code never runs twice, and no failure keeps a chat from its next call.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from sandkeeper.model import Session, utc_now
from sandkeeper.ports import SessionStore
from tests.e2e.conftest import Chat, a_chat, texts, wait_for
from tests.e2e.runs import result_of
from tests.sandbox_server import Server, eventually


def told(status: str, generation: int = 1, reason: str | None = None) -> dict[str, Any]:
    """Returns what a reply says of its session."""
    return {"status": status, "generation": generation, "stateReset": reason is not None, "reason": reason}


BUSY = ("rate_limited", "unavailable")
SDK_TRIES = 4
"""The SDK itself asks a busy E2B again, thrice."""
LIMIT_MS = 10_000
"""Of a run before which the deadline, if it is near, need not be moved."""
BYTES = bytes(range(256)) * 40
GONE: dict[str, Callable[[Server, str], object]] = {
    "killed behind our back": lambda server, sandbox_id: server.call("DELETE", f"/sandboxes/{sandbox_id}"),
    "vanished": lambda server, sandbox_id: server.plan("vanish", sandbox_id=sandbox_id),
    "expired at E2B": lambda server, sandbox_id: server.plan("expire", sandbox_id=sandbox_id),
}


def refused(reply: httpx.Response, slug: str) -> dict[str, Any]:
    """Returns the problem, which must be of this kind and invite to try again."""
    problem: dict[str, Any] = reply.json()
    assert (reply.status_code, problem["type"]) == (503, f"urn:sandkeeper:problem:{slug}"), problem
    assert int(reply.headers["retry-after"]) >= 1
    return problem


def sandbox_of(chat: Chat) -> str:
    """Returns the id of the chat's sandbox."""
    return str(chat.status()["sandboxId"])


def since(before: Mapping[str, int], server: Server) -> dict[str, int]:
    """Returns what E2B has been asked for since then."""
    return {name: count - before[name] for name, count in server.calls().items() if count != before[name]}


def row_of(store: SessionStore, chat: Chat) -> Session:
    """Returns the chat's row."""
    row = store.read(chat.key)
    assert row is not None
    return row


def pauses_at(store: SessionStore, chat: Chat) -> datetime:
    """Returns E2B's deadline, as the row has it."""
    moment = row_of(store, chat).pauses_at
    assert moment is not None
    return moment


def let_pause(store: SessionStore, chat: Chat, after: timedelta) -> None:
    """Lets the row say that E2B's deadline is `after` from now."""
    assert store.note_sandbox(replace(row_of(store, chat), pauses_at=utc_now() + after))


# ── The sandbox is gone ─────────────────────────────────────────────────────────────────────────────────


class TestASandboxThatIsGone:
    """On one chat, which loses one sandbox after the other: each loss is told once, and the files are back."""

    @pytest.fixture(scope="class")
    @classmethod
    def chat(cls, client: httpx.Client) -> Iterator[Chat]:
        """The chat, which has two files."""
        with a_chat(client) as made:
            made.upload("größe 1.bin", BYTES, "application/octet-stream")
            made.upload("kept.csv", b"a,b\n1,2\n")
            yield made

    @pytest.fixture
    def before(self, chat: Chat, faults: Server) -> dict[str, Any]:
        """The reply of a call that left a variable and a file in the sandbox."""
        return chat.run("x = 1; open('made here', 'w').write('once')")

    def is_told_the_loss(self, chat: Chat, before: dict[str, Any]) -> None:
        """Checks that the next call, and no further one, is told that all is gone but the chat's files."""
        digest = "hashlib.sha256(open('größe 1.bin', 'rb').read()).hexdigest()"
        gone = "'x' in globals() or os.path.exists('made here')"
        after = chat.run(f"import hashlib, os; print({gone}, open('kept.csv').read(), {digest})")

        generation = before["session"]["generation"] + 1
        assert after["session"] == told("recreated", generation, "sandbox_lost")
        assert texts(after) == [f"False a,b\n1,2\n {hashlib.sha256(BYTES).hexdigest()}\n"]
        assert (
            after["uploadedFiles"] == before["uploadedFiles"] == ["/home/user/größe 1.bin", "/home/user/kept.csv"]
        )
        assert after["sandboxId"] != before["sandboxId"]
        assert chat.run("1")["session"] == told("reused", generation)

    @pytest.mark.parametrize("how", GONE)
    def test_a_loss_is_told(self, chat: Chat, faults: Server, before: dict[str, Any], how: str) -> None:
        GONE[how](faults, before["sandboxId"])

        self.is_told_the_loss(chat, before)

    def test_a_loss_is_told_when_the_sandbox_was_thought_to_be_paused(
        self, chat: Chat, faults: Server, before: dict[str, Any], store: SessionStore
    ) -> None:
        faults.plan("vanish", sandbox_id=before["sandboxId"])
        let_pause(store, chat, timedelta(seconds=-1))

        self.is_told_the_loss(chat, before)

    def test_a_loss_in_the_middle_of_a_run_ends_the_run_and_the_next_call_is_told(
        self, chat: Chat, faults: Server, before: dict[str, Any]
    ) -> None:
        with ThreadPoolExecutor(1) as threads:
            code = "print('half', flush=True); open('begun', 'w'); import time; time.sleep(20)"
            running = threads.submit(chat.run, code)
            wait_for(faults, before["sandboxId"], "begun")
            faults.call("DELETE", f"/sandboxes/{before['sandboxId']}")
            broken = running.result()

        assert (broken["success"], texts(broken)) == (False, ["half\n"])
        assert (broken["errorDetail"]["kind"], broken["errorDetail"]["retryable"]) == ("sandbox_lost", True)
        self.is_told_the_loss(chat, before)

    def test_a_loss_is_still_told_when_the_first_try_to_replace_the_sandbox_failed(
        self, chat: Chat, faults: Server, before: dict[str, Any]
    ) -> None:
        faults.plan("vanish", sandbox_id=before["sandboxId"])
        faults.plan("failed", call="create")

        refused(chat.execute("1"), "sandbox-unavailable")

        self.is_told_the_loss(chat, before)


# ── The sandbox stays, but cannot be used just now ──────────────────────────────────────────────────────


class TestASandboxThatStays:
    """On one chat, whose variable and file every case finds again."""

    @pytest.fixture(scope="class")
    @classmethod
    def chat(cls, client: httpx.Client) -> Iterator[Chat]:
        """The chat; its sandbox has the variable `x` and the file `kept`."""
        with a_chat(client) as made:
            made.run("x = 41; open('kept', 'w').write('content')")
            yield made

    @pytest.fixture(autouse=True)
    def no_deadline_is_near(self, chat: Chat, store: SessionStore) -> None:
        """Lets no call move the deadline, however slow the tests before were, but where a test says so."""
        let_pause(store, chat, timedelta(minutes=10))

    @pytest.fixture
    def paused(self, chat: Chat, faults: Server) -> str:
        """The id of the chat's sandbox, which has just been paused."""
        sandbox_id = sandbox_of(chat)
        faults.plan("pause", sandbox_id=sandbox_id)
        return sandbox_id

    def is_all_there(self, chat: Chat, status: str) -> None:
        """Checks that the next call has all that there was, in the same sandbox, and is told so."""
        sandbox_id = sandbox_of(chat)
        answer = chat.run("print(x + 1, open('kept').read())", onBusy="reject", timeoutMs=LIMIT_MS)
        assert (answer["session"], texts(answer)) == (told(status), ["42 content\n"])
        assert answer["sandboxId"] == sandbox_id

    def test_a_sandbox_that_was_paused_behind_our_back_goes_on(
        self, chat: Chat, paused: str, faults: Server
    ) -> None:
        before = faults.calls()

        self.is_all_there(chat, "resumed")

        assert since(before, faults) == {"run": 2, "connect": 1}, "the first run is refused before it starts"
        self.is_all_there(chat, "reused")

    def test_a_sandbox_whose_deadline_is_past_is_connected_to_before_anything_is_tried(
        self, chat: Chat, paused: str, faults: Server, store: SessionStore
    ) -> None:
        let_pause(store, chat, timedelta(seconds=-1))
        before = faults.calls()

        self.is_all_there(chat, "resumed")

        assert since(before, faults) == {"connect": 1, "run": 1}
        assert pauses_at(store, chat) > utc_now() + timedelta(minutes=4)

    def test_a_file_that_came_while_it_was_paused_is_there(self, chat: Chat, paused: str) -> None:
        chat.upload("late.csv", b"a\n1\n")

        answer = chat.run("print(x, open('late.csv').read())")

        assert (answer["session"], texts(answer)) == (told("resumed"), ["41 a\n1\n\n"])

    @pytest.mark.parametrize("after_bytes", [0, 50, 1_000])
    def test_a_connection_that_breaks_during_a_run_costs_nothing(
        self, chat: Chat, faults: Server, after_bytes: int
    ) -> None:
        """Before the answer's head, within it, and in the middle of the output."""
        before = faults.calls()
        faults.plan("run_dropped", sandbox_id=sandbox_of(chat), after_bytes=after_bytes)

        answer = chat.run(f"open('ran {after_bytes}', 'a').write('once'); print('y' * 2000)")

        assert (answer["success"], answer["session"], texts(answer)) == (True, told("reused"), ["y" * 2000 + "\n"])
        assert since(before, faults) == {"run": 2}, "the run is asked for again, and found"
        assert texts(chat.run(f"print(open('ran {after_bytes}').read())")) == ["once\n"]
        self.is_all_there(chat, "reused")

    def test_a_request_to_run_that_got_no_answer_is_repeated(self, chat: Chat, faults: Server) -> None:
        before = faults.calls()
        faults.plan("unreachable", sandbox_id=sandbox_of(chat))

        assert texts(chat.run("print(x)")) == ["41\n"]

        assert since(before, faults) == {"run": 2}
        self.is_all_there(chat, "reused")

    def test_a_run_out_of_reach_is_left_and_told_to_whoever_asks_for_it(self, chat: Chat, faults: Server) -> None:
        sandbox_id = sandbox_of(chat)
        faults.plan("run_dropped", sandbox_id=sandbox_id, after_bytes=1_000)
        code = "open('ran on', 'a').write('once'); import time; time.sleep(1); print('y' * 2000)"
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(chat.execute, code)
            wait_for(faults, sandbox_id, "ran on")
            faults.plan("unreachable", sandbox_id=sandbox_id, times=None)
            left = running.result()
        assert left.status_code == 202, left.text
        refused(chat.client.get(left.json()["statusUrl"]), "sandbox-unavailable")

        faults.call("DELETE", "/admin/faults")

        assert texts(result_of(chat.client, left.json())) == ["y" * 2000 + "\n"]
        assert texts(chat.run("print(open('ran on').read())")) == ["once\n"]
        self.is_all_there(chat, "reused")

    def test_a_run_that_nobody_may_have_heard_of_is_left_and_then_told_lost(
        self, chat: Chat, faults: Server
    ) -> None:
        """All connections ended without an answer, so that nobody could say what became of the code."""
        faults.plan("unreachable", sandbox_id=sandbox_of(chat), times=None)

        left = chat.execute("x = 0")

        assert left.status_code == 202, left.text
        faults.call("DELETE", "/admin/faults")
        detail = result_of(chat.client, left.json())["errorDetail"]
        assert (detail["kind"], detail["retryable"]) == ("sandbox_lost", True)
        self.is_all_there(chat, "reused")

    def test_a_sandbox_that_takes_no_file_is_told_before_the_code_runs(self, chat: Chat, faults: Server) -> None:
        chat.upload("more.csv", b"a\n2\n")
        faults.plan("unreachable", sandbox_id=sandbox_of(chat), times=None)

        refused(chat.execute("x = 0"), "sandbox-unavailable")
        faults.call("DELETE", "/admin/faults")

        assert texts(chat.run("print(open('more.csv').read())")) == ["a\n2\n\n"]
        self.is_all_there(chat, "reused")

    def test_an_e2b_that_is_busy_for_a_moment_only_delays_the_call(
        self, chat: Chat, paused: str, faults: Server
    ) -> None:
        for kind in BUSY:
            faults.plan(kind, call="connect", sandbox_id=paused, times=SDK_TRIES - 1)

        self.is_all_there(chat, "resumed")

    def test_a_sandbox_that_cannot_be_resumed_just_now_goes_on_at_the_next_call(
        self, chat: Chat, paused: str, faults: Server
    ) -> None:
        faults.plan("failed", call="connect", sandbox_id=paused)

        refused(chat.execute("x = 0"), "sandbox-unavailable")

        self.is_all_there(chat, "resumed")

    def test_a_sandbox_that_was_resumed_unheard_is_found_running(
        self, chat: Chat, paused: str, faults: Server
    ) -> None:
        faults.plan("reply_lost", call="connect", sandbox_id=paused)

        refused(chat.execute("x = 0"), "sandbox-unavailable")

        self.is_all_there(chat, "reused")

    def test_a_deadline_that_draws_near_is_moved_beside_the_run(
        self, chat: Chat, faults: Server, store: SessionStore
    ) -> None:
        let_pause(store, chat, timedelta(minutes=1))
        before = faults.calls()

        self.is_all_there(chat, "reused")

        eventually(lambda: pauses_at(store, chat) > utc_now() + timedelta(minutes=4))
        assert since(before, faults) == {"timeout": 1, "run": 1}

    @pytest.mark.parametrize("kind", ["failed", "rate_limited"])
    def test_a_deadline_that_cannot_be_moved_costs_the_run_nothing(
        self, chat: Chat, faults: Server, store: SessionStore, kind: str
    ) -> None:
        let_pause(store, chat, timedelta(minutes=1))
        noted = pauses_at(store, chat)
        before = faults.calls()
        faults.plan(kind, call="timeout", sandbox_id=sandbox_of(chat), times=None)

        self.is_all_there(chat, "reused")

        eventually(lambda: since(before, faults).get("timeout"))
        assert pauses_at(store, chat) == noted, "a deadline is noted only once E2B has moved it"
