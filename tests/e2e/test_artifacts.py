"""Files that runs leave behind, over HTTP: reported in the reply, kept in S3, and downloaded byte for byte."""

import hashlib

import httpx
import pytest

from sandkeeper_client import Artifact, Chat, Ended, NotFound, Run
from tests.e2e.conftest import Chat as RawChat
from tests.stack import RunningStack


@pytest.fixture
def chat(own: Chat) -> Chat:
    """A chat of this test alone."""
    return own


def artifacts_of(run: Run) -> dict[str, Artifact]:
    """Returns path → artifact of a run all of whose artifacts were stored."""
    assert all(artifact.status == "stored" for artifact in run.artifacts), run.artifacts
    return {artifact.path: artifact for artifact in run.artifacts}


def test_files_that_code_writes_are_reported_and_downloaded_byte_for_byte(chat: Chat) -> None:
    run = chat.run(
        "import pandas as pd, hashlib, os\n"
        "import matplotlib.pyplot as plt\n"
        "os.makedirs('reports/2026', exist_ok=True)\n"
        "pd.DataFrame({'a': [1, 2]}).to_excel('reports/2026/žluťoučký report.xlsx', index=False)\n"
        "plt.plot([1, 2]); plt.savefig('plot.png'); plt.close()\n"
        "open('bytes.bin', 'wb').write(bytes(range(256)) * 4096)\n"
        "for path in ('reports/2026/žluťoučký report.xlsx', 'plot.png', 'bytes.bin'):\n"
        "    print(hashlib.sha256(open(path, 'rb').read()).hexdigest())"
    )
    found = artifacts_of(run)
    digests = run.text.split()

    paths = ["/home/user/reports/2026/žluťoučký report.xlsx", "/home/user/plot.png", "/home/user/bytes.bin"]
    assert sorted(found) == sorted(paths)
    for path, digest in zip(paths, digests, strict=True):
        content = chat.download(found[path])
        assert hashlib.sha256(content).hexdigest() == digest
        assert len(content) == found[path].size
    assert found["/home/user/plot.png"].mime_type == "image/png"
    assert run.more_files == 0


def test_a_browser_saves_them_and_shows_none(stack: RunningStack, chat: Chat) -> None:
    """What code has written could be a page with scripts."""
    (artifact,) = chat.run("open('page.html', 'w').write('<script>1</script>')").artifacts
    with stack.client() as client:
        reply = client.get(f"{RawChat(client, chat.id).url}/artifacts/{artifact.artifact_id}")
    assert reply.status_code == 302
    got = httpx.get(reply.headers["location"]).raise_for_status()
    assert got.headers["content-disposition"].startswith("attachment")


def test_they_outlive_the_sandbox_and_later_ones_of_a_name_are_versions(chat: Chat) -> None:
    chat.run("open('out.txt', 'w').write('first')")
    chat.run("open('out.txt', 'w').write('second')")
    chat.run("1 + 1")
    chat.close()

    listed = list(chat.artifacts())

    assert [(each.path, each.version, each.size) for each in listed] == [
        ("/home/user/out.txt", 2, 6),
        ("/home/user/out.txt", 1, 5),
    ]
    assert [chat.download(each) for each in listed] == [b"second", b"first"]


def test_a_chats_own_files_are_none_until_code_changes_them(chat: Chat) -> None:
    chat.upload(b"a,b\n1,2\n", name="data.csv")

    assert chat.run("print(open('data.csv').read())").artifacts == ()
    chat.upload(b"a,b\n1,2\n", name="later.csv")
    assert chat.run("open('data.csv').read(); 1").artifacts == ()
    assert list(artifacts_of(chat.run("open('data.csv', 'a').write('3,4\\n')"))) == ["/home/user/data.csv"]


def test_code_that_fails_or_is_stopped_leaves_its_files_too(chat: Chat) -> None:
    raised = chat.run("open('before.txt', 'w').write('x')\n1/0")
    stopped = chat.run("open('half.txt', 'w').write('x')\nwhile True: pass", timeout=1)

    assert raised.error_detail is not None
    assert stopped.error_detail is not None
    assert (raised.error_detail.kind, list(artifacts_of(raised))) == ("user_code", ["/home/user/before.txt"])
    assert (stopped.error_detail.kind, list(artifacts_of(stopped))) == ("timeout", ["/home/user/half.txt"])


def test_a_run_that_nobody_waits_for_has_its_files_kept_once_it_is_asked_for(chat: Chat) -> None:
    execution = chat.start("import time\ntime.sleep(1)\nopen('late.txt', 'w').write('late')")

    *_, end = execution.events()
    result = execution.look().result

    assert result is not None
    (kept,) = artifacts_of(result).values()
    assert isinstance(end, Ended)
    assert end.artifacts == (kept,)
    assert chat.download(kept) == b"late"


def test_large_files_go_through_and_too_many_are_told(chat: Chat) -> None:
    """A large one goes to S3 in several parts."""
    large = chat.run("open('large.bin', 'wb').write(bytes(range(256)) * 4096 * 30)")
    (kept,) = artifacts_of(large).values()
    assert chat.download(kept) == bytes(range(256)) * 4096 * 30

    many = chat.run("for number in range(130): open(f'{number}.txt', 'w').write('x')")
    statuses = [artifact.status for artifact in many.artifacts]
    assert (statuses.count("stored"), statuses.count("skipped"), many.more_files) == (20, 80, 30)
    assert "a run keeps 20 files" in (many.artifacts[-1].reason or "")


@pytest.mark.parametrize("artifact_id", ["01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z-0"])
def test_what_is_not_there_is_told(chat: Chat, artifact_id: str) -> None:
    with pytest.raises(NotFound, match=f"404 artifact-not-found: .*{artifact_id}"):
        chat.download(artifact_id)
