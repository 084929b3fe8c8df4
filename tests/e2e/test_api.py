"""The service over HTTP as a chat backend sees it: real sandboxes, the AWS emulator, the app that Lambda runs."""

import base64
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from local.project import SAMPLE
from tests.stack import RunningStack

EXECUTE = "/api/jupyter/execute"
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    """A chat backend's client."""
    with stack.client() as made:
        yield made


@pytest.fixture
def chat(client: httpx.Client) -> Iterator[str]:
    """The id of a chat of this test alone, closed afterwards."""
    chat_id = f"test-{uuid.uuid4()}"
    yield chat_id
    client.delete(EXECUTE, params={"chatId": chat_id}).raise_for_status()


@pytest.fixture
def run(client: httpx.Client, chat: str) -> Run:
    """Runs code in the test's chat, and returns the reply."""

    def run_code(code: str, **fields: Any) -> dict[str, Any]:
        reply = client.post(EXECUTE, json={"chatId": chat, "code": code, **fields})
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    return run_code


def upload(
    client: httpx.Client, chat: str, name: str, content: bytes, content_type: str = "text/csv"
) -> dict[str, Any]:
    """Uploads a file, waits until it has been read, and returns what the API tells of it."""
    files = f"/api/chats/{chat}/files"
    request = {"fileName": name, "size": len(content), "contentType": content_type}
    registered = client.post(files, json=request).raise_for_status().json()
    ticket = registered["upload"]
    httpx.post(ticket["url"], data=ticket["fields"], files={"file": content}).raise_for_status()
    deadline = time.monotonic() + 20
    while True:
        file: dict[str, Any] = client.get(f"{files}/{registered['fileId']}").raise_for_status().json()
        if file["status"] != "pending":
            return file
        assert time.monotonic() < deadline, f"still pending: {file}"
        time.sleep(0.05)


def texts(answer: dict[str, Any]) -> list[str]:
    """Returns the contents of the reply's text items."""
    return [item["content"] for item in answer["results"] if item["type"] == "text"]


# ── Running code ────────────────────────────────────────────────────────────────────────────────────


def test_variables_survive_from_call_to_call(run: Run) -> None:
    first = run("x = 41")
    second = run("x + 1")
    assert (first["session"]["status"], second["session"]["status"]) == ("new", "reused")
    assert texts(second) == ["42"]
    assert first["sandboxId"] == second["sandboxId"]


def test_a_program_that_raises_is_a_result(run: Run) -> None:
    answer = run("print('before'); undefined")
    assert answer["success"] is False
    assert answer["error"] == "NameError: name 'undefined' is not defined"
    assert answer["errorDetail"]["kind"] == "user_code"
    assert [item["type"] for item in answer["results"]] == ["text", "error"]
    assert "\x1b" not in answer["errorDetail"]["traceback"]


def test_a_run_ends_at_its_limit_and_keeps_variables_and_output(run: Run) -> None:
    run("kept = 'still here'")
    answer = run("import time\nprint('started', flush=True)\ntime.sleep(20)", timeoutMs=1_000)
    assert answer["success"] is False
    assert answer["errorDetail"]["kind"] == "timeout"
    assert texts(answer) == ["started\n"]
    assert texts(run("print(kept)")) == ["still here\n"]


def test_output_keeps_its_order_and_its_streams(run: Run) -> None:
    answer = run("import sys\nprint('a')\nprint('b')\nprint('c', file=sys.stderr)\ndisplay(1)\nprint('d')\n2")
    shown = [(item["content"], item["mimeType"]) for item in answer["results"]]
    assert shown == [
        ("a\nb\n", "text/plain"),
        ("c\n", "text/plain; stream=stderr"),
        ("1", "text/plain"),
        ("d\n", "text/plain"),
        ("2", "text/plain"),
    ]


def test_a_plot_is_an_image_and_a_chart(run: Run) -> None:
    answer = run("import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2])\nplt.title('T')\nplt.show()")
    image, chart = answer["results"]
    assert (image["type"], image["mimeType"]) == ("image", "image/png")
    assert base64.b64decode(image["content"]).startswith(b"\x89PNG\r\n\x1a\n")
    assert chart["type"] == "chart"
    assert chart["content"]["type"] == "bar"


def test_a_dataframe_is_html_and_a_table(run: Run) -> None:
    answer = run("import pandas as pd\npd.DataFrame({'a': [1, 2]})")
    assert [item["type"] for item in answer["results"]] == ["html", "table"]
    assert answer["results"][1]["content"] == {"a": [1, 2]}


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────────


def test_status_follows_the_session(client: httpx.Client, chat: str, run: Run) -> None:
    def status() -> dict[str, Any]:
        answer: dict[str, Any] = client.get(EXECUTE, params={"chatId": chat}).raise_for_status().json()
        return answer

    assert status() == {"exists": False, "sandboxId": None, "expiresIn": None}
    sandbox_id = run("1")["sandboxId"]
    live = status()
    assert (live["exists"], live["sandboxId"]) == (True, sandbox_id)
    assert 1_790_000 < live["expiresIn"] <= 1_800_000
    for _ in range(2):
        assert client.delete(EXECUTE, params={"chatId": chat}).status_code == 204
    assert status()["exists"] is False
    assert run("1")["session"]["status"] == "new"


def test_a_vanished_sandbox_is_told_and_its_files_are_back(
    client: httpx.Client, chat: str, run: Run, stack: RunningStack
) -> None:
    upload(client, chat, "kept.csv", b"a,b\n1,2\n")
    run("x = 1")
    sandbox_id = run("x")["sandboxId"]
    httpx.delete(f"{stack.sandbox_url}/sandboxes/{sandbox_id}", headers={"X-API-KEY": "any"}).raise_for_status()
    answer = run("print(open('kept.csv').read(), 'x' in globals())")
    assert answer["session"] == {
        "status": "recreated",
        "generation": 2,
        "stateReset": True,
        "reason": "sandbox_lost",
    }
    assert texts(answer) == ["a,b\n1,2\n False\n"]


def test_ten_chats_at_once_all_get_their_own_answer(client: httpx.Client) -> None:
    chats = [f"many-{uuid.uuid4()}" for _ in range(10)]

    def answer_of(chat_id: str) -> str:
        reply = client.post(EXECUTE, json={"chatId": chat_id, "code": f"print({chat_id!r})"})
        assert reply.status_code == 200, reply.text
        return texts(reply.json())[0].strip()

    with ThreadPoolExecutor(10) as pool:
        assert [*pool.map(answer_of, chats)] == chats
    for chat_id in chats:
        client.delete(EXECUTE, params={"chatId": chat_id}).raise_for_status()


def test_calls_at_once_on_one_chat_run_one_after_the_other(client: httpx.Client, chat: str, run: Run) -> None:
    run("seen = []")
    code = "seen.append(len(seen)); import time; time.sleep(0.05); seen[-1]"
    with ThreadPoolExecutor(5) as pool:
        replies = [*pool.map(lambda _: run(code), range(5))]
    assert sorted(texts(reply)[0] for reply in replies) == ["0", "1", "2", "3", "4"]
    assert len({reply["sandboxId"] for reply in replies}) == 1


def test_a_caller_may_refuse_to_wait(client: httpx.Client, chat: str, run: Run) -> None:
    run("1")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(run, "import time; open('begun', 'w').close(); time.sleep(3)")
        refused = _first_refusal(client, chat)
        assert slow.result()["success"]
    assert refused.status_code == 409
    assert refused.json()["type"].endswith(":session-busy")
    assert int(refused.headers["retry-after"]) >= 1


def _first_refusal(client: httpx.Client, chat: str) -> httpx.Response:
    """Returns the first reply that is not a success; there must be one while the slow run holds the session."""
    deadline = time.monotonic() + 3
    while True:
        reply = client.post(EXECUTE, json={"chatId": chat, "code": "1", "onBusy": "reject"})
        if reply.status_code != 200:
            return reply
        assert time.monotonic() < deadline, "no call was refused while another one ran"


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_sample_file_is_read_and_usable(client: httpx.Client, chat: str, run: Run) -> None:
    file = upload(client, chat, "employee_data.csv", SAMPLE.read_bytes())
    assert (file["status"], file["rowCount"], len(file["headers"])) == ("ready", 15, 7)
    answer = run("import pandas as pd\nprint(round(pd.read_csv('employee_data.csv')['Salary'].mean(), 2))")
    assert texts(answer) == ["83666.67\n"]
    assert answer["uploadedFiles"] == ["/home/user/employee_data.csv"]


def test_a_file_of_a_warm_session_is_there_at_the_next_call(client: httpx.Client, chat: str, run: Run) -> None:
    assert run("1")["uploadedFiles"] == []
    upload(client, chat, "late.csv", b"a\n1\n")
    assert texts(run("print(open('late.csv').read())")) == ["a\n1\n\n"]
    assert run("1")["uploadedFiles"] == ["/home/user/late.csv"]


def test_equal_names_get_paths_of_their_own(client: httpx.Client, chat: str, run: Run) -> None:
    paths = [upload(client, chat, "d.csv", content)["path"] for content in (b"a\n1\n", b"a\n2\n")]
    assert paths == ["/home/user/d.csv", "/home/user/d-2.csv"]
    assert texts(run("print(open('d.csv').read() + open('d-2.csv').read())")) == ["a\n1\na\n2\n\n"]


def test_binary_files_arrive_byte_for_byte(client: httpx.Client, chat: str, run: Run) -> None:
    content = bytes(range(256)) * 4_000
    upload(client, chat, "blob.bin", content, "application/octet-stream")
    code = "import hashlib; print(hashlib.sha256(open('blob.bin', 'rb').read()).hexdigest())"
    import hashlib  # noqa: PLC0415 - the same line as above, on this side

    assert texts(run(code)) == [hashlib.sha256(content).hexdigest() + "\n"]


def test_only_named_files_are_required(client: httpx.Client, chat: str, run: Run) -> None:
    one, two = (upload(client, chat, name, b"a\n1\n") for name in ("one.csv", "two.csv"))
    assert run("1", fileIds=[one["fileId"]])["uploadedFiles"] == [one["path"]]
    assert texts(run("import glob; print(glob.glob('*.csv'))", fileIds=[])) == ["['one.csv']\n"]
    assert run("1", fileIds=[two["fileId"]])["uploadedFiles"] == [two["path"]]


def test_a_deleted_file_is_gone_everywhere(client: httpx.Client, chat: str, run: Run) -> None:
    file = upload(client, chat, "gone.csv", b"a\n1\n")
    run("1")
    one = f"/api/chats/{chat}/files/{file['fileId']}"
    assert client.delete(one).status_code == 204
    assert client.get(one).status_code == client.delete(one).status_code == 404
    assert client.get(f"/api/chats/{chat}/files").json() == {"files": []}
    answer = run("import os; print(os.path.exists('gone.csv'))")
    assert (texts(answer), answer["uploadedFiles"]) == (["False\n"], [])


def test_a_table_that_is_none_is_told_so(client: httpx.Client, chat: str) -> None:
    file = upload(client, chat, "fake.csv", b"\x89PNG\r\n\x1a\n\x00\x00" * 50)
    assert file["status"] == "failed"
    assert "fake.csv" in file["reason"]
    reply = client.post(EXECUTE, json={"chatId": chat, "code": "1", "fileIds": [file["fileId"]]})
    assert (reply.status_code, reply.json()["type"]) == (422, "urn:sandkeeper:problem:file-unusable")


def test_s3_refuses_more_than_was_registered(client: httpx.Client, chat: str) -> None:
    request = {"fileName": "small.csv", "size": 10, "contentType": "text/csv"}
    ticket = client.post(f"/api/chats/{chat}/files", json=request).raise_for_status().json()["upload"]
    reply = httpx.post(ticket["url"], data=ticket["fields"], files={"file": b"x" * 11})
    assert reply.status_code == 400
    assert "EntityTooLarge" in reply.text
