"""The functions' handlers, called with the payloads in `events/`, against the emulators and real sandboxes."""

import gc
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from local import aws
from local.project import SAMPLE
from sandkeeper.adapters.dynamodb.items import row_key
from sandkeeper.adapters.s3 import object_key
from sandkeeper.model import ChatKey, FileRecord, RunEnd
from sandkeeper.runs import Ended
from sandkeeper.wiring import ApiWiring
from tests.files import PNG, dataset, flights, workbook
from tests.integration.conftest import body, event, execute, invoke
from tests.stack import RunningStack

KEY = ChatKey("local", "handlers")
A_WHILE = timedelta(seconds=20)


def let_expire(stack: RunningStack, chat_id: str) -> None:
    """Lets the chat's session have been unused for too long."""
    aws.client("dynamodb", stack.aws_url).update_item(
        TableName=stack.table_name,
        Key=row_key(ChatKey("local", chat_id), "SESSION"),
        UpdateExpression="SET expiresAt = :past",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )


@pytest.mark.usefixtures("environment")
def test_the_api_executes_reports_and_closes() -> None:
    executed = invoke("api", event("execute"))
    assert executed["statusCode"] == 200, executed
    assert body(executed)["success"] is True
    status = body(invoke("api", event("status")))
    assert (status["exists"], status["sandboxId"]) == (True, body(executed)["sandboxId"])
    assert invoke("api", event("close"))["statusCode"] == 204
    assert body(invoke("api", event("status")))["exists"] is False


@pytest.mark.usefixtures("environment")
def test_an_error_of_the_api_is_text_not_base64() -> None:
    refused = event("execute")
    refused["headers"]["authorization"] = "Bearer sk_of_nobody"
    reply = invoke("api", refused)
    assert (reply["statusCode"], body(reply)["type"]) == (401, "urn:sandkeeper:problem:unauthenticated")


@pytest.mark.usefixtures("environment")
def test_an_uploaded_file_is_read() -> None:
    wiring = ApiWiring()
    record, ticket = wiring.files.register(KEY, file_name="e.csv", size_bytes=10_000, content_type="text/csv")
    httpx.post(ticket.url, data=dict(ticket.fields), files={"file": SAMPLE.read_bytes()}).raise_for_status()
    uploaded = event("s3-upload")
    uploaded["Records"][0]["s3"]["object"]["key"] = object_key(KEY, record.file_id).replace("=", "%3D")
    for _ in range(2):  # S3 delivers at least once
        assert invoke("file_ingest", uploaded) == {"files": 1}
    read = wiring.files.get(KEY, record.file_id)
    assert (read.status, read.row_count, len(read.headers or ())) == ("ready", 15, 7)
    wiring.files.delete(KEY, record.file_id)
    assert invoke("file_ingest", uploaded) == {"files": 1}, "a late event of a deleted file does no harm"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("name", "content", "kind", "tables"),
    [
        ("flights.csv", b"\n".join(flights().split(b"\n")[:50_001]), "csv", [(None, 50_000, 19)]),
        (
            "cars.csv",
            workbook(Cars=[["name", "mpg"], ["x", 1.5]], Old=[["y"], [1]]),
            "excel",
            [("Cars", 1, 2), ("Old", 1, 1)],
        ),
        ("cars.json", dataset("vega_datasets", "_data/cars.json").read_bytes(), "json", [(None, 406, 9)]),
        ("plot.png", PNG, "image", []),
    ],
    ids=["CSV", "workbook", "JSON", "image"],
)
def test_an_upload_is_known_by_its_content(name: str, content: bytes, kind: str, tables: list[Any]) -> None:
    read = ingested(name, content)

    assert (read.status, read.kind, read.size_bytes) == ("ready", kind, len(content))
    assert [(table.name, table.row_count, len(table.columns)) for table in read.tables] == tables


@pytest.mark.usefixtures("environment")
def test_an_upload_that_cannot_be_read_fails_at_once_and_says_why() -> None:
    failed = ingested("cars.csv", workbook(Cars=[["name"], ["x"]])[:-100])

    assert failed.status == "failed"
    assert failed.reason is not None
    assert "'cars.csv' is a damaged zip archive" in failed.reason


def ingested(name: str, content: bytes) -> FileRecord:
    """Returns the record of a file that was uploaded and read."""
    wiring = ApiWiring()
    record, ticket = wiring.files.register(
        KEY, file_name=name, size_bytes=len(content), content_type="application/octet-stream"
    )
    httpx.post(ticket.url, data=dict(ticket.fields), files={"file": content}).raise_for_status()
    uploaded = event("s3-upload")
    uploaded["Records"][0]["s3"]["object"]["key"] = object_key(KEY, record.file_id).replace("=", "%3D")
    assert invoke("file_ingest", uploaded) == {"files": 1}
    read = wiring.files.get(KEY, record.file_id)
    wiring.files.delete(KEY, record.file_id)
    return read


@pytest.mark.usefixtures("environment")
def test_an_object_that_is_no_chats_file_is_left_alone() -> None:
    strange = event("s3-upload")
    strange["Records"][0]["s3"]["object"]["key"] = "files/readme.txt"
    assert invoke("file_ingest", strange) == {"files": 0}


def test_cleanup_ends_what_has_expired_and_no_more(stack: RunningStack, environment: pytest.MonkeyPatch) -> None:
    invoke("api", event("execute"))
    before = invoke("cleanup", event("cleanup"))
    assert before["ended"] == 0
    let_expire(stack, json.loads(event("execute")["body"])["chatId"])
    report = invoke("cleanup", event("cleanup"))
    assert gc.isenabled(), "a start does without, and no more than that"
    assert report.keys() == {"ended", "skipped", "orphans", "failed", "live", "complete"}
    assert (report["ended"], report["skipped"], report["failed"], report["complete"]) == (1, 0, 0, True)
    assert report["live"] < before["live"]
    again = body(invoke("api", event("execute")))
    assert again["session"]["status"] == "recreated"
    assert again["session"]["reason"] == "expired"
    assert invoke("cleanup", event("cleanup-all"))["ended"] >= 1
    assert body(invoke("api", event("status")))["exists"] is False


@pytest.mark.usefixtures("environment")
def test_cleanup_records_the_last_run_of_what_it_ends(stack: RunningStack) -> None:
    """A run that nobody has asked for before its session expired, with more output than a row has room for."""
    chat_id, lines = "cleaned-up", 30_000
    accepted = invoke("api", execute(chat_id, f"for n in range({lines}): print(n)", mode="async"))
    assert accepted["statusCode"] == 202, accepted
    wiring, key = ApiWiring(), ChatKey("local", chat_id)
    row = wiring.store.read(key)
    assert row is not None
    assert row.sandbox is not None
    [*_, ended] = wiring.sandboxes.follow(row.sandbox, body(accepted)["executionId"], after=0, wait=A_WHILE)
    assert ended.what == Ended(RunEnd.FINISHED)
    let_expire(stack, chat_id)

    assert invoke("cleanup", event("cleanup"))["ended"] == 1

    status = event("status")
    status["requestContext"]["http"]["path"] = status["rawPath"] = body(accepted)["statusUrl"]
    told = body(invoke("api", status | {"rawQueryString": ""}))
    assert told["state"] == "ended"
    assert told["result"]["results"][0]["content"] == "".join(f"{n}\n" for n in range(lines))


@pytest.mark.usefixtures("environment")
def test_a_missing_e2b_key_names_the_setting(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("E2B_API_KEY")
    reply = invoke("api", event("execute"))
    assert (reply["statusCode"], body(reply)["type"]) == (500, "urn:sandkeeper:problem:not-configured")
    assert "E2B_API_KEY" in body(reply)["detail"]
    assert body(invoke("api", event("status")))["exists"] is False


@pytest.mark.usefixtures("environment")
def test_a_missing_table_name_names_the_setting(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("TABLE_NAME")
    reply = invoke("api", event("status"))
    assert reply["statusCode"] == 500
    assert "TABLE_NAME" in body(reply)["detail"]
