"""The Python client's way with content: it goes to and comes from elsewhere, and the token does not."""

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandkeeper_client import Artifact, ConnectionFailed, FileFailed, InvalidInput, Result, TimedOut, TransferFailed
from tests.client_service import NOW, Content, Service, ok, problem, progress, run_told

CHAT = "/stage/api/chats/c"
BUCKET = "https://bucket.test/"
TICKET = {
    "fileId": "f",
    "path": "/home/user/a.csv",
    "upload": {"url": BUCKET, "fields": {"key": "k", "policy": "p"}},
}
SIGNED = "https://bucket.test/a?X-Amz-Signature=secret"


def file_told(status: str = "ready", **more: Any) -> dict[str, Any]:
    return {
        "fileId": "f",
        "name": "a.csv",
        "path": "/home/user/a.csv",
        "size": 4,
        "contentType": "text/csv",
        "status": status,
        "reason": None,
        "kind": "csv",
        "tables": [
            {
                "name": None,
                "columns": [{"name": "a", "type": "integer", "nulls": 0}],
                "rowCount": 1,
                "sample": [[1]],
            }
        ],
        "details": {"delimiter": ","},
        "headers": ["a"],
        "rowCount": 1,
        "createdAt": NOW,
        **more,
    }


def artifact(path: str = "/home/user/out.bin") -> Artifact:
    told = {"artifactId": "run-0", "path": path, "size": 3, "mimeType": "application/octet-stream"}
    return Artifact.of({**told, "status": "stored", "reason": None})


def led() -> httpx.Response:
    return httpx.Response(302, headers={"Location": SIGNED})


# ── Uploads ─────────────────────────────────────────────────────────────────────────────────────────────


def test_an_upload_goes_straight_to_s3_and_is_there_once_it_has_been_read(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\n1\n")
    service.will(ok(TICKET, 201), httpx.Response(204), ok(file_told("pending")), ok(file_told()))

    file = service.chat_does(lambda chat: chat.upload(path, replace=True))

    assert (file.status, file.headers, file.tables[0].columns[0].type) == ("ready", ("a",), "integer")
    assert service.asked == [f"POST {CHAT}/files", "POST /", *[f"GET {CHAT}/files/f"] * 2]
    registration, stored = service.heard[:2]
    about = {"fileName": "a.csv", "size": 4, "contentType": "text/csv", "replace": True}
    assert json.loads(registration.content) == about
    assert "authorization" not in stored.headers
    assert stored.headers["content-length"] == str(len(stored.content))
    parts = [stored.content.index(each) for each in (b'name="key"', b'name="policy"', b'name="file"', b"a\n1\n")]
    assert parts == sorted(parts)


@pytest.mark.parametrize("failure", [httpx.WriteError, lambda: httpx.Response(503, text="<Code>SlowDown</Code>")])
def test_an_upload_that_breaks_is_sent_again_from_its_beginning(service: Service, failure: Any) -> None:
    service.will(ok(TICKET, 201), failure, httpx.Response(204), ok(file_told()))
    service.chat_does(lambda chat: chat.upload(io.BytesIO(b"a\n1\n"), name="a.csv"))
    assert [b"a\n1\n" in request.content for request in service.heard[1:3]] == [True, True]


def test_what_s3_refuses_is_told_in_its_own_words(service: Service) -> None:
    service.will(ok(TICKET, 201), httpx.Response(400, text="<Code>EntityTooLarge</Code>"))
    with pytest.raises(TransferFailed, match=r"bucket\.test answered 400: <Code>EntityTooLarge"):
        service.chat_does(lambda chat: chat.upload(b"a\n1\n", name="a.csv"))


def test_a_file_that_cannot_be_used_is_an_error_with_its_reason(service: Service) -> None:
    service.will(ok(TICKET, 201), httpx.Response(204), ok(file_told("failed", reason="it is no table")))
    with pytest.raises(FileFailed, match="it is no table") as raised:
        service.chat_does(lambda chat: chat.upload(b"\x89PNG", name="a.csv"))
    assert raised.value.file.file_id == "f"


def test_a_file_that_nobody_reads_is_not_waited_for_without_end(service: Service) -> None:
    service.will(ok(TICKET, 201), httpx.Response(204), ok(file_told("pending")))
    with pytest.raises(TimedOut, match=r"file\('f'\)"):
        service.chat_does(lambda chat: chat.upload(b"a\n1\n", name="a.csv", within_s=0))


def test_content_without_a_name_is_refused_before_anything_is_sent(service: Service) -> None:
    with pytest.raises(InvalidInput, match=r"name='data\.csv'"):
        service.chat_does(lambda chat: chat.upload(b"a\n1\n"))
    assert service.heard == []


def test_files_are_listed_named_to_runs_and_deleted(service: Service) -> None:
    service.will(ok({"files": [file_told()]}), ok(run_told()), httpx.Response(204))
    (file,) = service.chat_does(lambda chat: chat.files())
    service.runs(files=[file, "g"])
    service.chat_does(lambda chat: chat.delete_file(file))
    assert service.bodies()[0]["fileIds"] == ["f", "g"]
    assert service.asked[-1] == f"DELETE {CHAT}/files/f"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv", "text/csv"), ("a.csv.gz", "application/octet-stream"), ("a", "application/octet-stream")],
)
def test_the_type_of_a_file_is_what_its_name_speaks_of(service: Service, name: str, kind: str) -> None:
    service.will(ok(TICKET, 201), httpx.Response(204), ok(file_told()))
    service.chat_does(lambda chat: chat.upload(b"any", name=name))
    assert json.loads(service.heard[0].content)["contentType"] == kind


# ── Downloads ───────────────────────────────────────────────────────────────────────────────────────────


def test_an_artifact_comes_from_s3_which_is_not_told_the_token(service: Service, tmp_path: Path) -> None:
    for _ in range(2):
        service.will(led(), httpx.Response(200, stream=Content(b"\x00", b"\xff\n")))

    content = service.chat_does(lambda chat: chat.download(artifact()))
    saved = service.chat_does(lambda chat: chat.save("run-0", tmp_path / "mine.bin"))

    assert (content, saved.read_bytes()) == (b"\x00\xff\n", b"\x00\xff\n")
    assert [str(request.url) for request in service.heard[1::2]] == [SIGNED] * 2
    assert [request.headers.get("authorization") for request in service.heard[:2]] == [
        "Bearer sk_of_this_test",
        None,
    ]


def test_a_download_that_breaks_leaves_what_was_there(service: Service, tmp_path: Path) -> None:
    (tmp_path / "out.bin").write_bytes(b"old")
    service.will(led(), httpx.Response(200, stream=Content(b"ne", breaks=True)))
    with pytest.raises(ConnectionFailed, match="broke off"):
        service.chat_does(lambda chat: chat.save(artifact(), tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.bin": b"old"}


@pytest.mark.parametrize("path", ["/home/user/../../etc/out.bin", "/home/user/a/b/out.bin", "../out.bin"])
def test_in_a_folder_an_artifact_has_its_name_and_nothing_else_of_its_path(
    service: Service, tmp_path: Path, path: str
) -> None:
    service.will(led(), httpx.Response(200, content=b"new"))
    assert service.chat_does(lambda chat: chat.save(artifact(path), tmp_path)) == tmp_path / "out.bin"
    assert [each.name for each in tmp_path.iterdir()] == ["out.bin"]


def test_an_artifact_without_a_name_needs_one(service: Service, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="give the path of a file"):
        service.chat_does(lambda chat: chat.save(artifact("/home/user/.."), tmp_path))


def test_a_result_that_was_too_large_is_had_from_where_it_lies(service: Service) -> None:
    linked = {"type": "html", "mimeType": "text/html", "url": SIGNED, "size": 5, "expiresIn": 900_000}
    service.will(ok(run_told(linked)), httpx.ConnectError, httpx.Response(200, content=b"<p>hi"))

    (result,) = service.runs().results

    assert (result.content, result.size) == (None, 5)
    assert service.chat_does(lambda chat: chat.content(result)) == b"<p>hi"
    assert "authorization" not in service.heard[-1].headers
    assert SIGNED not in repr(result)


def test_an_address_that_is_too_old_says_what_to_do(service: Service) -> None:
    result = Result.of({"type": "text", "mimeType": "text/plain", "url": SIGNED, "size": 5, "expiresIn": 0})
    service.will(httpx.Response(403, text="<Code>AccessDenied</Code>"))
    with pytest.raises(TransferFailed, match="answered 403") as raised:
        service.chat_does(lambda chat: chat.content(result))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("mime_type", "content", "held"),
    [
        ("image/png", "iVBORw==", b"\x89PNG"),
        ("text/html", "<p>ž", "<p>ž".encode()),
        ("application/json", {"ž": [1]}, '{"ž": [1]}'.encode()),
    ],
)
def test_what_a_reply_holds_is_had_without_asking(
    service: Service, mime_type: str, content: Any, held: bytes
) -> None:
    result = Result.of({"type": "any", "mimeType": mime_type, "content": content})
    assert service.chat_does(lambda chat: chat.content(result)) == held
    assert service.heard == []


def test_lists_come_in_pages_and_are_read_to_their_end(service: Service) -> None:
    told = {"executionId": "run", "path": "/p", "size": 1, "mimeType": "text/plain", "createdAt": NOW}
    for version, more in ((2, "there"), (1, None)):
        service.will(
            ok({"artifacts": [{**told, "artifactId": f"run-{version}", "version": version}], "next": more})
        )

    found = service.chat_does(lambda chat: chat.artifacts())

    assert [(each.artifact_id, each.version) for each in found] == [("run-2", 2), ("run-1", 1)]
    assert [request.url.params.get("next") for request in service.heard] == [None, "there"]


def test_a_chat_without_a_session_has_none_and_other_things_that_are_missing_are_errors(service: Service) -> None:
    service.will(problem(404, "session-not-found"), progress(run_told()))
    assert service.chat_does(lambda chat: chat.session()) is None
    assert service.chat_does(lambda chat: chat.execution("run").look()).state == "ended"
