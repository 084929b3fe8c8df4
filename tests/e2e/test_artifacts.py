"""Files that runs leave behind, over HTTP: reported in the reply, kept in S3, and downloaded byte for byte."""

import hashlib
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Chat, Run, texts
from tests.e2e.runs import begin, follow


def artifacts_of(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns path → artifact of a reply in which all were stored."""
    assert all(artifact["status"] == "stored" for artifact in answer["artifacts"]), answer["artifacts"]
    return {artifact["path"]: artifact for artifact in answer["artifacts"]}


def download(chat: Chat, artifact_id: str) -> httpx.Response:
    """Returns what a chat backend gets that asks for the artifact and goes where it is led."""
    reply = chat.client.get(f"{chat.url}/artifacts/{artifact_id}")
    assert reply.status_code == 302, reply.text
    return httpx.get(reply.headers["location"]).raise_for_status()


def test_files_that_code_writes_are_reported_and_downloaded_byte_for_byte(chat: Chat, run: Run) -> None:
    answer = run(
        "import pandas as pd, hashlib, os\n"
        "import matplotlib.pyplot as plt\n"
        "os.makedirs('reports/2026', exist_ok=True)\n"
        "pd.DataFrame({'a': [1, 2]}).to_excel('reports/2026/žluťoučký report.xlsx', index=False)\n"
        "plt.plot([1, 2]); plt.savefig('plot.png'); plt.close()\n"
        "open('bytes.bin', 'wb').write(bytes(range(256)) * 4096)\n"
        "for path in ('reports/2026/žluťoučký report.xlsx', 'plot.png', 'bytes.bin'):\n"
        "    print(hashlib.sha256(open(path, 'rb').read()).hexdigest())"
    )
    found = artifacts_of(answer)
    digests = texts(answer)[-1].split()

    paths = ["/home/user/reports/2026/žluťoučký report.xlsx", "/home/user/plot.png", "/home/user/bytes.bin"]
    assert sorted(found) == sorted(paths)
    for path, digest in zip(paths, digests, strict=True):
        got = download(chat, found[path]["artifactId"])
        assert hashlib.sha256(got.content).hexdigest() == digest
        assert len(got.content) == found[path]["size"]
        assert got.headers["content-disposition"].startswith("attachment")
    assert found["/home/user/plot.png"]["mimeType"] == "image/png"
    assert answer["moreFiles"] == 0


def test_they_outlive_the_sandbox_and_later_ones_of_a_name_are_versions(chat: Chat, run: Run) -> None:
    run("open('out.txt', 'w').write('first')")
    run("open('out.txt', 'w').write('second')")
    run("1 + 1")
    chat.close()

    listed = chat.client.get(f"{chat.url}/artifacts").raise_for_status().json()

    assert [(each["path"], each["version"], each["size"]) for each in listed["artifacts"]] == [
        ("/home/user/out.txt", 2, 6),
        ("/home/user/out.txt", 1, 5),
    ]
    contents = [download(chat, each["artifactId"]).content for each in listed["artifacts"]]
    assert contents == [b"second", b"first"]


def test_a_chats_own_files_are_none_until_code_changes_them(chat: Chat, run: Run) -> None:
    chat.upload("data.csv", b"a,b\n1,2\n")

    assert run("print(open('data.csv').read())")["artifacts"] == []
    chat.upload("later.csv", b"a,b\n1,2\n")
    assert run("open('data.csv').read(); 1")["artifacts"] == []
    assert list(artifacts_of(run("open('data.csv', 'a').write('3,4\\n')"))) == ["/home/user/data.csv"]


def test_code_that_fails_or_is_stopped_leaves_its_files_too(run: Run) -> None:
    raised = run("open('before.txt', 'w').write('x')\n1/0")
    stopped = run("open('half.txt', 'w').write('x')\nwhile True: pass", timeoutMs=1_000)

    assert (raised["errorDetail"]["kind"], list(artifacts_of(raised))) == ("user_code", ["/home/user/before.txt"])
    assert (stopped["errorDetail"]["kind"], list(artifacts_of(stopped))) == ("timeout", ["/home/user/half.txt"])


def test_a_run_that_nobody_waits_for_has_its_files_kept_once_it_is_asked_for(chat: Chat) -> None:
    accepted = begin(chat, "import time\ntime.sleep(1)\nopen('late.txt', 'w').write('late')")

    events = follow(chat.client, accepted)
    result = chat.client.get(accepted["statusUrl"]).raise_for_status().json()["result"]

    (kept,) = artifacts_of(result).values()
    assert (events[-1].event, events[-1].told["artifacts"]) == ("end", [kept])
    assert download(chat, kept["artifactId"]).content == b"late"


def test_large_files_go_through_and_too_many_are_told(chat: Chat, run: Run) -> None:
    """A large one goes to S3 in several parts."""
    large = run("open('large.bin', 'wb').write(bytes(range(256)) * 4096 * 30)")
    (kept,) = artifacts_of(large).values()
    assert download(chat, kept["artifactId"]).content == bytes(range(256)) * 4096 * 30

    many = run("for number in range(130): open(f'{number}.txt', 'w').write('x')")
    statuses = [artifact["status"] for artifact in many["artifacts"]]
    assert (statuses.count("stored"), statuses.count("skipped"), many["moreFiles"]) == (20, 80, 30)
    assert "a run keeps 20 files" in many["artifacts"][-1]["reason"]


@pytest.mark.parametrize("artifact_id", ["01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z-0"])
def test_what_is_not_there_is_told(chat: Chat, artifact_id: str) -> None:
    reply = chat.client.get(f"{chat.url}/artifacts/{artifact_id}")

    assert reply.status_code == 404
    assert artifact_id in reply.json()["detail"]
