"""The service over HTTP as a chat backend sees it: real sandboxes, the AWS emulator, the app that Lambda runs."""

import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
from e2b_code_interpreter import Sandbox

from local.project import SAMPLE
from sandkeeper_client import Sandkeeper
from tests.e2e.conftest import Chat, Run, a_chat, texts, wait_for
from tests.sandbox_server import Server
from tests.stack import RunningStack

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


def test_status_follows_the_session(chat: Chat, run: Run) -> None:
    assert chat.status() == {"exists": False, "sandboxId": None, "expiresIn": None}
    sandbox_id = run("1")["sandboxId"]
    live = chat.status()
    assert (live["exists"], live["sandboxId"]) == (True, sandbox_id)
    assert 1_790_000 < live["expiresIn"] <= 1_800_000
    for _ in range(2):
        assert chat.close().status_code == 204
    assert chat.status()["exists"] is False
    assert run("1")["session"]["status"] == "new"


def test_six_chats_at_once_all_get_their_own_answer(client: httpx.Client, stack: RunningStack) -> None:
    """Where the machine is slow to start so many sandboxes, a call is refused for now; the client asks again."""
    with (
        ExitStack() as closing,
        ThreadPoolExecutor(6) as pool,
        Sandkeeper(stack.api_url, stack.api_key) as service,
    ):
        chats = [closing.enter_context(a_chat(client)).id for _ in range(6)]
        runs = pool.map(lambda chat: service.chat(chat).run(f"print({chat!r})"), chats)
        assert [run.text for run in runs] == [chat + "\n" for chat in chats]


def test_calls_at_once_on_one_chat_run_one_after_the_other(chat: Chat, run: Run) -> None:
    run("seen = []")
    code = "seen.append(len(seen)); import time; time.sleep(0.05); seen[-1]"
    with ThreadPoolExecutor(5) as pool:
        replies = [*pool.map(lambda _: run(code), range(5))]
    assert sorted(texts(reply)[0] for reply in replies) == ["0", "1", "2", "3", "4"]
    assert len({reply["sandboxId"] for reply in replies}) == 1


def test_a_caller_may_refuse_to_wait(chat: Chat, run: Run, e2b: Server) -> None:
    sandbox_id = run("1")["sandboxId"]
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(
            run, "import os, time; open('begun', 'w').close()\nwhile not os.path.exists('go'): time.sleep(0.01)"
        )
        wait_for(e2b, sandbox_id, "begun")
        refused = chat.execute("1", onBusy="reject")
        Sandbox.connect(sandbox_id, timeout=300, **e2b.sdk).files.write("go", "")
        assert slow.result()["success"]
    assert refused.status_code == 409
    assert refused.json()["type"].endswith(":session-busy")
    assert int(refused.headers["retry-after"]) >= 1


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_sample_file_is_read_and_usable(chat: Chat, run: Run) -> None:
    file = chat.upload("employee_data.csv", SAMPLE.read_bytes())
    assert (file["status"], file["rowCount"], len(file["headers"])) == ("ready", 15, 7)
    answer = run("import pandas as pd\nprint(round(pd.read_csv('employee_data.csv')['Salary'].mean(), 2))")
    assert texts(answer) == ["83666.67\n"]
    assert answer["uploadedFiles"] == ["/home/user/employee_data.csv"]


def test_a_file_of_a_warm_session_is_there_at_the_next_call(chat: Chat, run: Run) -> None:
    assert run("1")["uploadedFiles"] == []
    chat.upload("late.csv", b"a\n1\n")
    assert texts(run("print(open('late.csv').read())")) == ["a\n1\n\n"]
    assert run("1")["uploadedFiles"] == ["/home/user/late.csv"]


def test_equal_names_get_paths_of_their_own(chat: Chat, run: Run) -> None:
    paths = [chat.upload("d.csv", content)["path"] for content in (b"a\n1\n", b"a\n2\n")]
    assert paths == ["/home/user/d.csv", "/home/user/d-2.csv"]
    assert texts(run("print(open('d.csv').read() + open('d-2.csv').read())")) == ["a\n1\na\n2\n\n"]


def test_binary_files_arrive_byte_for_byte(chat: Chat, run: Run) -> None:
    content = bytes(range(256)) * 4_000
    chat.upload("blob.bin", content, "application/octet-stream")
    code = "import hashlib; print(hashlib.sha256(open('blob.bin', 'rb').read()).hexdigest())"
    import hashlib  # noqa: PLC0415 - the same line as above, on this side

    assert texts(run(code)) == [hashlib.sha256(content).hexdigest() + "\n"]


def test_only_named_files_are_required(chat: Chat, run: Run) -> None:
    one, two = (chat.upload(name, b"a\n1\n") for name in ("one.csv", "two.csv"))
    assert run("1", fileIds=[one["fileId"]])["uploadedFiles"] == [one["path"]]
    assert texts(run("import glob; print(glob.glob('*.csv'))", fileIds=[])) == ["['one.csv']\n"]
    assert run("1", fileIds=[two["fileId"]])["uploadedFiles"] == [two["path"]]


def test_a_deleted_file_is_gone_everywhere(chat: Chat, run: Run) -> None:
    file = chat.upload("gone.csv", b"a\n1\n")
    run("1")
    one = f"{chat.url}/files/{file['fileId']}"
    assert chat.client.delete(one).status_code == 204
    assert chat.client.get(one).status_code == chat.client.delete(one).status_code == 404
    assert chat.client.get(f"{chat.url}/files").json() == {"files": []}
    answer = run("import os; print(os.path.exists('gone.csv'))")
    assert (texts(answer), answer["uploadedFiles"]) == (["False\n"], [])


def test_a_table_that_is_none_is_told_so(chat: Chat) -> None:
    file = chat.upload("fake.csv", b"\x89PNG\r\n\x1a\n\x00\x00" * 50)
    assert file["status"] == "failed"
    assert "fake.csv" in file["reason"]
    reply = chat.execute("1", fileIds=[file["fileId"]])
    assert (reply.status_code, reply.json()["type"]) == (422, "urn:sandkeeper:problem:file-unusable")


def test_s3_refuses_more_than_was_registered(chat: Chat) -> None:
    request = {"fileName": "small.csv", "size": 10, "contentType": "text/csv"}
    ticket = chat.client.post(f"{chat.url}/files", json=request).raise_for_status().json()["upload"]
    reply = httpx.post(ticket["url"], data=ticket["fields"], files={"file": b"x" * 11})
    assert reply.status_code == 400
    assert "EntityTooLarge" in reply.text
