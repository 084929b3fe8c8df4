"""What a caller sees when E2B fails as a sandbox is made or ended; `test_loss.py` has what lies in between."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from local import aws
from local.functions import Context, load
from tests.e2e.conftest import Chat, a_chat, texts
from tests.e2e.test_loss import BUSY, SDK_TRIES, refused, told
from tests.sandbox_server import Server, eventually
from tests.stack import RunningStack

# ── Making a sandbox ────────────────────────────────────────────────────────────────────────────────────


def test_an_e2b_without_room_for_a_moment_only_delays_the_first_call(chat: Chat, faults: Server) -> None:
    before = faults.states().keys()
    for kind in BUSY:
        faults.plan(kind, call="create", times=SDK_TRIES - 1)

    answer = chat.run("1")

    assert answer["session"] == told("new")
    assert faults.states().keys() - before == {answer["sandboxId"]}


def test_an_e2b_without_room_is_told_in_time_and_keeps_warm_chats_from_nothing(
    client: httpx.Client, chat: Chat, faults: Server
) -> None:
    chat.run("x = 1")
    before = faults.states().keys()
    faults.plan("rate_limited", call="create", times=None)

    with a_chat(client) as cold, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(cold.execute, "1")
        eventually(lambda: cold.session().status_code == 200)
        assert cold.session().json()["state"] == "creating"
        assert cold.execute("1", onBusy="reject").status_code == 409
        assert chat.run("x")["session"] == told("reused")
        refused(waiting.result(), "capacity-exhausted")
        assert faults.states().keys() == before

        faults.call("DELETE", "/admin/faults")
        assert cold.run("1", onBusy="reject")["session"] == told("new")


def test_a_creation_that_failed_leaves_the_chat_free(chat: Chat, faults: Server) -> None:
    faults.plan("failed", call="create")

    refused(chat.execute("1"), "sandbox-unavailable")

    assert chat.run("1", onBusy="reject")["session"] == told("new")


def test_a_sandbox_that_was_made_unheard_is_the_one_that_the_next_call_gets(chat: Chat, faults: Server) -> None:
    before = faults.states().keys()
    faults.plan("reply_lost", call="create")

    refused(chat.execute("1"), "sandbox-unavailable")
    (made,) = faults.states().keys() - before
    answer = chat.run("1")

    assert (answer["session"], answer["sandboxId"]) == (told("new"), made)
    assert faults.states().keys() - before == {made}


def test_calls_that_come_while_a_slow_e2b_makes_the_sandbox_share_it(chat: Chat, faults: Server) -> None:
    before = faults.states().keys()
    faults.plan("slow", call="create", delay_ms=1_500)

    with ThreadPoolExecutor(4) as threads:
        answers = [*threads.map(lambda number: chat.run(f"x{number} = 1; {number}"), range(4))]

    assert {answer["sandboxId"] for answer in answers} == faults.states().keys() - before
    assert sorted(answer["session"]["status"] for answer in answers) == ["new", "reused", "reused", "reused"]
    assert sorted(texts(answer)[0] for answer in answers) == ["0", "1", "2", "3"]


# ── Ending a sandbox ────────────────────────────────────────────────────────────────────────────────────


def test_what_a_close_could_not_kill_is_ended_by_cleanup(
    chat: Chat, faults: Server, stack: RunningStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox_id = chat.run("1")["sandboxId"]
    faults.plan("failed", call="kill", sandbox_id=sandbox_id)

    refused(chat.close(), "sandbox-unavailable")

    assert chat.status()["exists"] is False, "whoever closes a chat is done with it"
    assert faults.states()[sandbox_id] == "running"
    _let_claim_end(stack, chat)
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    assert load("cleanup").handler({}, Context("cleanup"))["failed"] == 0
    assert faults.states()[sandbox_id] == "killed"


def _let_claim_end(stack: RunningStack, chat: Chat) -> None:
    """Lets the time pass in which cleanup leaves the work to whoever began it."""
    aws.client("dynamodb", stack.aws_url).update_item(
        TableName=stack.table_name,
        Key={"pk": {"S": f"CHAT#{chat.key.owner}#{chat.id}"}, "sk": {"S": "SESSION"}},
        UpdateExpression="SET claimUntil = :past",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )
