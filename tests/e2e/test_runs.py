"""Runs of any length over HTTP: one POST, live output, cancel, and never twice."""

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from local import aws
from sandkeeper.adapters.dynamodb import DynamoApiKeyStore, Table
from sandkeeper.model import ApiKey, utc_now
from sandkeeper.services.auth import hash_token
from tests.e2e.conftest import EXECUTE, Chat, a_chat, texts, wait_for
from tests.e2e.runs import begin, connection, follow, gateway_to, printed, result_of
from tests.sandbox_server import Server
from tests.stack import RunningStack

COUNT = "import time\nfor n in range({count}):\n    print('line', n)\n    time.sleep({pause})"
AT_ONCE = 20
FLAT_BYTES = 48 * 2**20


def counting(count: int, pause: float) -> str:
    """Returns a program that prints so many lines, with a pause after each."""
    return COUNT.format(count=count, pause=pause)


def lines(count: int) -> list[str]:
    """Returns what it prints."""
    return [f"line {number}" for number in range(count)]


# ── Longer than a call ──────────────────────────────────────────────────────────────────────────────────


def test_a_run_of_a_minute_passes_a_gateway_that_cuts_at_30_seconds(stack: RunningStack, chat: Chat) -> None:
    with gateway_to(stack.api_url) as gateway, stack.client() as client:
        client.base_url = httpx.URL(gateway.url)
        reply = Chat(client, chat.id).execute(counting(60, 1), timeoutMs=120_000)

        assert reply.status_code == 202, reply.text
        events = follow(client, reply.json())
        result = result_of(client, reply.json())

    assert printed(events).splitlines() == lines(60)
    assert [event.event for event in events if event.event != "output"] == ["accepted", "started", "end"]
    assert events[-1].told["success"] is True
    assert "".join(texts(result)).splitlines() == lines(60)
    assert gateway.cut == []


def test_a_run_outlives_all_processes_of_the_service(stack: RunningStack, chat: Chat) -> None:
    accepted = begin(chat, "begun = True\n" + counting(40, 0.25))
    with pytest.raises(httpx.TransportError):
        for _ in connection(chat.client, accepted):
            for name in ("api", "events"):
                stack.restart(name)
    seen = follow(chat.client, accepted)
    stack.restart("api")

    assert printed(seen).splitlines() == lines(40)
    result = result_of(chat.client, accepted)
    assert (result["success"], "".join(texts(result)).splitlines()) == (True, lines(40))
    after = chat.run("begun")
    assert (texts(after), after["session"]["status"], after["session"]["stateReset"]) == (["True"], "reused", False)


def test_a_call_that_dies_with_its_process_leaves_a_run_that_is_known_by_its_key(
    stack: RunningStack, chat: Chat, e2b: Server
) -> None:
    """The caller hears nothing and asks again: it gets what came of the one run.

    Other calls have to wait until the dead one's time is over, as it could be slow and not dead.
    """
    sandbox_id = chat.run("count = 0")["sandboxId"]
    code = "import time\ncount += 1\nopen('begun', 'w').close()\ntime.sleep(5)\ncount"
    key = {"Idempotency-Key": uuid.uuid4().hex}
    request = {"chatId": chat.id, "code": code}

    def ask() -> httpx.Response:
        return chat.client.post(EXECUTE, json=request, headers=key)

    with ThreadPoolExecutor(1) as caller:
        dying = caller.submit(ask)
        wait_for(e2b, sandbox_id, "begun")
        stack.restart("api")
        assert isinstance(dying.exception(), httpx.TransportError)

    again = ask()

    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true"), again.text
    assert texts(again.json()) == ["1"]
    assert ask().json() | {"expiresIn": 0} == again.json() | {"expiresIn": 0}
    while (reply := chat.execute("count")).status_code == 409:
        time.sleep(float(reply.headers["retry-after"]))
    assert texts(reply.json()) == ["1"]


# ── Followed ────────────────────────────────────────────────────────────────────────────────────────────


def test_two_clients_follow_one_run_and_hear_the_same(stack: RunningStack, chat: Chat) -> None:
    accepted = begin(chat, counting(30, 0.1))
    with stack.client() as other, ThreadPoolExecutor(2) as followers:
        first, second = followers.map(lambda client: follow(client, accepted), (chat.client, other))

    assert first == second
    assert printed(first).splitlines() == lines(30)
    assert [event.id for event in first] == [str(number) for number in range(1, len(first) + 1)]


def test_a_run_can_be_followed_from_any_event_on_also_once_it_has_ended(chat: Chat) -> None:
    accepted = begin(chat, counting(3, 0))
    whole = follow(chat.client, accepted)

    for event in whole[:-1]:
        rest = [*connection(chat.client, accepted, event.id)]
        assert rest == whole[whole.index(event) + 1 :]
    headers = {"Last-Event-ID": whole[-1].id}
    assert chat.client.get(accepted["eventsUrl"], headers=headers).status_code == 204


def test_output_is_heard_while_the_program_goes_on(chat: Chat, e2b: Server) -> None:
    """The program waits for a file that is made only once its output was heard."""
    accepted = begin(chat, "import os, time\nprint('waiting')\nwhile not os.path.exists('go'): time.sleep(0.01)")
    heard = threading.Event()
    for event in connection(chat.client, accepted):
        if event.event == "output":
            heard.set()
            break
    assert heard.is_set()
    busy = chat.execute("open('go', 'w')", onBusy="reject")
    assert busy.status_code == 409, "it goes on"

    cancelled = chat.client.post(f"{accepted['statusUrl']}/cancel").json()

    assert texts(cancelled["result"]) == ["waiting\n"]


# ── Stopped ─────────────────────────────────────────────────────────────────────────────────────────────


def test_cancel_stops_that_run_alone_keeps_the_session_and_gives_what_there_was(chat: Chat) -> None:
    chat.run("kept = 'yes'")
    accepted = begin(chat, "print('half', flush=True)\n" + counting(600, 0.1))
    next(event for event in connection(chat.client, accepted) if event.event == "output")

    run = chat.client.post(f"{accepted['statusUrl']}/cancel").raise_for_status().json()

    assert (run["state"], run["result"]["success"]) == ("ended", False)
    assert run["result"]["errorDetail"]["kind"] == "cancelled"
    assert texts(run["result"])[0].startswith("half\n")
    assert all(item["type"] == "text" for item in run["result"]["results"])
    after = chat.run("kept")
    assert (texts(after), after["session"]["status"]) == (["yes"], "reused")
    again = chat.client.post(f"{accepted['statusUrl']}/cancel").raise_for_status().json()
    assert again["result"]["results"] == run["result"]["results"]


def test_at_its_limit_a_run_is_interrupted_and_gives_what_there_was(chat: Chat) -> None:
    answer = chat.run("begun = 1\n" + counting(600, 0.1), timeoutMs=1_000)

    assert answer["errorDetail"]["kind"] == "timeout"
    assert texts(answer)[0].startswith("line 0\n")
    after = chat.run("begun")
    assert (texts(after), after["session"]["stateReset"]) == (["1"], False)


def test_a_flood_is_cut_and_the_session_stays(chat: Chat) -> None:
    answer = chat.run("kept = 1\nwhile True: print('x' * 1000)", timeoutMs=20_000)

    assert answer["errorDetail"]["kind"] == "output_limit"
    assert 2_000_000 < len(texts(answer)[0]) <= 3_000_000
    assert texts(chat.run("kept")) == ["1"]


def test_want_of_memory_is_told_as_such(chat: Chat) -> None:
    answer = chat.run("kept = 1\nhuge = bytearray(100 * 2**30)")

    assert answer["errorDetail"]["kind"] == "out_of_memory"
    assert texts(chat.run("kept")) == ["1"]


def test_a_kernel_that_is_killed_for_want_of_memory_is_told_as_such(chat: Chat) -> None:
    """One process may take most of what its sandbox has, two of them may not: where control groups hold them to it.

    Elsewhere the program goes through, and there is nothing to be told.
    """
    child = "x = bytearray(b'x') * (1000 * 2**20); print('child', len(x))"
    code = f"""
import subprocess, sys
own = bytearray(b'x') * (1500 * 2**20)
print('holding')
print(subprocess.run([sys.executable, '-c', {child!r}], capture_output=True, text=True).stdout)
"""
    chat.run("kept = 1")
    answer = chat.run(code)

    if answer["success"]:
        assert "child" in "".join(texts(answer)), "nothing keeps the sandbox from having so much memory"
        return
    assert answer["errorDetail"]["kind"] == "out_of_memory"
    assert texts(answer) == ["holding\n"]
    after = chat.run("'kept' in globals()")
    assert (texts(after), after["session"]["reason"]) == (["False"], "kernel_died")


def test_code_that_takes_no_notice_of_its_limit_loses_its_kernel_which_is_told_twice(chat: Chat) -> None:
    chat.run("lost = 1")
    stubborn = (
        "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except KeyboardInterrupt:\n        pass"
    )

    answer = chat.run(stubborn, timeoutMs=1_000)

    assert answer["errorDetail"]["kind"] == "timeout"
    assert "variables are lost" in answer["errorDetail"]["hint"]
    after = chat.run("'lost' in globals()")
    assert (texts(after), after["session"]["reason"]) == (["False"], "kernel_died")
    assert chat.run("1")["session"]["stateReset"] is False


# ── Never twice ─────────────────────────────────────────────────────────────────────────────────────────


def test_of_ten_equal_requests_at_once_one_runs_the_code_and_all_tell_what_came_of_it(chat: Chat) -> None:
    chat.run("count = 0")
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"chatId": chat.id, "code": "import time\ntime.sleep(1)\ncount += 1\nprint('ran', count)"}
    with ThreadPoolExecutor(10) as callers:
        replies = [*callers.map(lambda _: chat.client.post(EXECUTE, json=body, headers=key), range(10))]

    assert {reply.status_code for reply in replies} == {200}
    assert {tuple(texts(reply.json())) for reply in replies} == {("ran 1\n",)}
    assert len({reply.json()["executionId"] for reply in replies}) == 1
    assert sum("idempotency-replayed" not in reply.headers for reply in replies) == 1
    assert texts(chat.run("count")) == ["1"]

    other = chat.client.post(EXECUTE, json={**body, "code": "count"}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "urn:sandkeeper:problem:invalid-request")


def test_a_repeated_request_for_a_run_that_goes_on_gets_the_same_one(chat: Chat) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"chatId": chat.id, "code": counting(20, 0.1), "mode": "async"}
    first, second = (chat.client.post(EXECUTE, json=body, headers=key) for _ in range(2))

    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()
    assert "".join(texts(result_of(chat.client, first.json()))).splitlines() == lines(20)
    third = chat.client.post(EXECUTE, json=body, headers=key)
    assert (third.status_code, third.json()["executionId"]) == (200, first.json()["executionId"])


def test_a_run_whose_sandbox_vanished_is_lost_and_a_repeated_request_does_not_run_it_again(
    chat: Chat, faults: Server
) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"chatId": chat.id, "code": "import time; time.sleep(60)", "mode": "async"}
    accepted = chat.client.post(EXECUTE, json=body, headers=key).json()
    faults.plan("vanish", sandbox_id=chat.status()["sandboxId"])

    lost = result_of(chat.client, accepted)
    repeated = chat.client.post(EXECUTE, json=body, headers=key)

    assert (lost["success"], lost["errorDetail"]["kind"]) == (False, "sandbox_lost")
    assert repeated.status_code == 200, repeated.text
    assert repeated.json()["errorDetail"]["kind"] == "sandbox_lost"
    assert chat.run("1")["session"]["reason"] == "sandbox_lost"


# ── Many at once ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def owner(stack: RunningStack) -> Iterator[httpx.Client]:
    """A chat backend of its own, whose chats are the only ones that it has."""
    token = f"sk_{uuid.uuid4().hex}"
    keys = DynamoApiKeyStore(Table(aws.client("dynamodb", stack.aws_url), stack.table_name))
    keys.put(ApiKey(token_hash=hash_token(token), owner=token[-8:], name="many", created_at=utc_now()))
    with stack.client(token) as client:
        yield client


@pytest.mark.timeout(240)
def test_twenty_long_runs_in_twenty_chats_are_followed_at_once_with_flat_memory(
    stack: RunningStack, owner: httpx.Client
) -> None:
    code = "import time\nfor n in range(60):\n    print(n, 'x' * 2000)\n    time.sleep(0.25)"
    expected = "".join(f"{n} {'x' * 2000}\n" for n in range(60))
    pids = {name: stack.pids()[name] for name in ("api", "sandboxes")}
    with ExitStack() as ending, ThreadPoolExecutor(AT_ONCE) as callers:
        chats = [ending.enter_context(a_chat(owner)) for _ in range(AT_ONCE)]
        for chat in chats:  # sandboxes take processor time to start: here it is the runs that matter
            ready(chat)
        begun = [*callers.map(lambda chat: begin(chat, code), chats)]
        before = {name: memory_of(pid) for name, pid in pids.items()}

        followed = [*callers.map(lambda accepted: follow(owner, accepted), begun)]

        grown = {name: memory_of(pid) - before[name] for name, pid in pids.items()}
        assert {printed(events) for events in followed} == {expected}
        assert all(size < FLAT_BYTES for size in grown.values()), grown
        assert all(result_of(owner, accepted)["success"] for accepted in begun)


def ready(chat: Chat) -> None:
    """Makes sure that the chat has a sandbox."""
    while (reply := chat.execute("1")).status_code == 503:
        time.sleep(float(reply.headers["retry-after"]))
    assert reply.status_code == 200, reply.text


def memory_of(pid: int) -> int:
    """Returns how many bytes of memory the process has for itself."""
    fields: dict[str, Any] = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if ":" in line
    )
    return int(fields["Pss_Anon"].split()[0]) * 1024
