"""How values are written down in DynamoDB and S3, and what their errors become."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from botocore.stub import ANY, Stubber
from hypothesis import given
from hypothesis import strategies as st

from sandkeeper.adapters.dynamodb import DynamoFileCatalog, DynamoRunLog, DynamoSessionStore, Table, items
from sandkeeper.adapters.dynamodb.files import file_item, file_of
from sandkeeper.adapters.s3 import S3FileContents, S3RunBodies, file_at, object_key
from sandkeeper.errors import FileNotFound, NotConfigured, SandkeeperError, StoreUnavailable
from sandkeeper.model import (
    ApiKey,
    ChatKey,
    Column,
    ColumnType,
    EndReason,
    FileKind,
    FileRecord,
    FileStatus,
    SandboxRef,
    Session,
    SessionState,
    utc_moment,
    utc_now,
)
from sandkeeper.model import Table as FileTable
from sandkeeper.ports import Granted, Position
from tests.factories import idle, opened, record
from tests.world import CHAT, START

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
CHATS = st.builds(ChatKey, TEXT, st.from_regex(r"\A[A-Za-z0-9._:-]{1,12}\Z"))
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)
)
COUNTS = st.integers(0, 10**9)
SANDBOXES = st.builds(
    SandboxRef,
    sandbox_id=TEXT,
    domain=st.none() | TEXT,
    envd_version=TEXT,
    envd_token=st.none() | TEXT,
    traffic_token=st.none() | TEXT,
)
SESSIONS = st.builds(
    Session,
    key=CHATS,
    state=st.sampled_from(SessionState),
    generation=COUNTS,
    claim_id=TEXT,
    created_at=TIMES,
    last_used_at=TIMES,
    expires_at=TIMES,
    claim_until=st.none() | TIMES,
    sandbox=st.none() | SANDBOXES,
    pauses_at=st.none() | TIMES,
    run_id=st.none() | TEXT,
    run_until=st.none() | TIMES,
    run_count=COUNTS,
    hydrated=st.dictionaries(TEXT, TEXT, max_size=3),
    fresh_files=st.frozensets(TEXT, max_size=3),
    predecessor_id=st.none() | TEXT,
    end_reason=st.none() | st.sampled_from(EndReason),
    untold=st.none() | st.sampled_from(EndReason),
)
CELLS = st.none() | st.booleans() | COUNTS | st.floats(allow_nan=False, allow_infinity=False) | TEXT
TABLES = st.builds(
    FileTable,
    name=st.none() | TEXT,
    columns=st.lists(
        st.builds(
            Column,
            name=st.text(st.characters(codec="utf-8"), max_size=5),
            type=st.sampled_from(get_args(ColumnType)),
            nulls=COUNTS,
        ),
        max_size=3,
    ),
    row_count=COUNTS,
    sample=st.lists(st.lists(CELLS | st.lists(CELLS, max_size=2), max_size=2), max_size=2),
)
FILES = st.builds(
    FileRecord,
    key=CHATS,
    file_id=TEXT,
    name=TEXT,
    path=TEXT,
    size_bytes=COUNTS,
    content_type=TEXT,
    created_at=TIMES,
    status=st.sampled_from(FileStatus),
    reason=st.none() | TEXT,
).flatmap(
    lambda file: (
        st.just(file)
        | st.builds(
            replace,
            st.just(file),
            kind=st.sampled_from(FileKind),
            tables=st.just(()) | st.lists(TABLES, min_size=1, max_size=2),
            details=st.dictionaries(TEXT, CELLS, max_size=2),
        )
    )
)


def is_whole(session: Session) -> bool:
    """Returns whether the session has what its state needs: others are never written."""
    if session.state is SessionState.READY and session.sandbox is None:
        return False
    transient = session.state in (SessionState.CREATING, SessionState.CLOSING)
    return not (transient and session.claim_until is None) and not (session.run_id and session.run_until is None)


KEYS = st.builds(ApiKey, token_hash=TEXT, owner=TEXT, name=TEXT, created_at=TIMES, last_used_day=st.none() | TEXT)


@given(SESSIONS.filter(is_whole))
def test_a_session_reads_as_it_was_written(session: Session) -> None:
    assert items.session_of(items.session_item(session)) == session


@given(FILES)
def test_a_file_reads_as_it_was_written(file: FileRecord) -> None:
    assert file_of(file_item(file)) == file


@given(KEYS)
def test_an_api_key_reads_as_it_was_written(api_key: ApiKey) -> None:
    assert items.api_key_of(items.api_key_item(api_key)) == api_key


@given(CHATS, CHATS)
def test_two_chats_never_share_a_partition_or_an_object(one: ChatKey, other: ChatKey) -> None:
    assert (items.chat_pk(one) == items.chat_pk(other)) == (one == other)
    assert (object_key(one, "file-1") == object_key(other, "file-1")) == (one == other)


@given(CHATS)
def test_a_chat_is_found_by_its_partition_and_by_its_objects(key: ChatKey) -> None:
    assert items.chat_of(items.chat_pk(key)) == key
    assert file_at(object_key(key, "file-1")) == (key, "file-1")
    assert items.expiry_shard(key) in items.shards()


@pytest.mark.parametrize(
    "key", ["", "files", "files/alice/c/1", "files/o=a/c=b", "files/o=a/c=b/1/2", "x/o=a/c=b/1"]
)
def test_an_object_that_is_no_chats_file_belongs_to_nobody(key: str) -> None:
    assert file_at(key) is None


@pytest.mark.parametrize("owner", [".", "..", "../../etc", "a/b"])
def test_no_owner_makes_a_path_segment_of_its_own(owner: str) -> None:
    segments = object_key(ChatKey(owner, ".."), "1").split("/")

    assert len(segments) == 4
    assert not {".", "..", ""} & set(segments)


def test_a_moment_survives_its_row() -> None:
    now = utc_now()

    assert utc_moment(items.millis(now)) == now


# ── Requests ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expires_in", "is_start"),
    [(timedelta(seconds=1), True), (timedelta(0), False), (-timedelta(minutes=1), False)],
)
def test_a_list_starts_at_a_position_only_where_it_has_not_expired_meanwhile(
    expires_in: timedelta, is_start: bool
) -> None:
    """DynamoDB refuses a start that the key condition excludes, and what has expired is behind the first anyway."""
    dynamodb, asked = client("dynamodb"), []
    dynamodb.meta.events.register("before-parameter-build.dynamodb.Query", lambda params, **_: asked.append(params))
    with Stubber(dynamodb) as stubber:
        stubber.add_response("query", {"Items": []})
        after = Position(START + expires_in, "chat-1")

        assert DynamoSessionStore(Table(dynamodb, "t")).owned("alice", now=START, limit=2, after=after) == []

    assert ["ExclusiveStartKey" in request for request in asked] == [is_start]


def test_a_row_is_recognised_by_an_attribute_that_is_null_too() -> None:
    """The clause was there and its value was not, so that DynamoDB refused the request and the chat was stuck."""
    broken = items.session_of(items.session_item(idle()) | {"claimId": {"NULL": True}})
    dynamodb = client("dynamodb")
    with Stubber(dynamodb) as stubber:
        values = {":seenstate": {"S": "ready"}, ":seenclaimId": {"NULL": True}, ":seenexpiresAt": ANY}
        expected = {
            "ExpressionAttributeValues": values,
            "ConditionExpression": ANY,
            "ExpressionAttributeNames": ANY,
        }
        rest = {"TableName": "t", "Item": ANY, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        stubber.add_response("put_item", {}, expected | rest)

        assert isinstance(DynamoSessionStore(Table(dynamodb, "t")).begin(idle(), seen=broken), Granted)


# ── Foreign errors ──────────────────────────────────────────────────────────────────────────────────

DYNAMODB_ERRORS = [
    ("ResourceNotFoundException", NotConfigured),
    ("AccessDeniedException", NotConfigured),
    ("UnrecognizedClientException", NotConfigured),
    ("ValidationException", NotConfigured),
    ("ProvisionedThroughputExceededException", StoreUnavailable),
    ("ThrottlingException", StoreUnavailable),
    ("InternalServerError", StoreUnavailable),
    ("SomethingNew", StoreUnavailable),
]
S3_ERRORS = [
    ("NoSuchKey", FileNotFound),
    ("NoSuchBucket", NotConfigured),
    ("AccessDenied", NotConfigured),
    ("SlowDown", StoreUnavailable),
    ("SomethingNew", StoreUnavailable),
]


def client(service: str) -> Any:
    """Returns a client that is never to reach anything."""
    return boto3.client(service, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


@pytest.mark.parametrize(("code", "kind"), DYNAMODB_ERRORS)
def test_what_dynamodb_says_becomes_one_of_ours(code: str, kind: type[SandkeeperError]) -> None:
    dynamodb = client("dynamodb")
    table = Table(dynamodb, "the-table")
    calls: dict[str, Callable[[], object]] = {
        "get_item": lambda: DynamoSessionStore(table).read(CHAT),
        "update_item": lambda: DynamoSessionStore(table).claim(
            CHAT, run_id="run-1", now=utc_now(), run_until=utc_now(), expires_at=utc_now()
        ),
        "put_item": lambda: DynamoSessionStore(table).begin(idle(), seen=None),
        "query": lambda: DynamoFileCatalog(table).of_chat(CHAT),
        "transact_write_items": lambda: DynamoFileCatalog(table).add(record()),
        "delete_item": lambda: DynamoRunLog(table, S3RunBodies(lambda: client("s3"), "b")).withdraw(opened()),
    }
    for operation, call in calls.items():
        with Stubber(dynamodb) as stubber:
            stubber.add_client_error(operation, code)
            with pytest.raises(kind, match=rf"'the-table' \(TABLE_NAME\).*{code}"):
                call()


def test_a_transaction_that_lost_a_race_to_another_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    dynamodb = client("dynamodb")
    with Stubber(dynamodb) as stubber:
        stubber.add_client_error(
            "transact_write_items",
            "TransactionCanceledException",
            modeled_fields={"CancellationReasons": [{"Code": "TransactionConflict"}, {"Code": "None"}]},
        )
        with pytest.raises(StoreUnavailable):
            DynamoFileCatalog(Table(dynamodb, "t")).add(record())


@pytest.mark.parametrize(("code", "kind"), S3_ERRORS)
def test_what_s3_says_becomes_one_of_ours(code: str, kind: type[SandkeeperError]) -> None:
    s3 = client("s3")
    with Stubber(s3) as stubber:
        stubber.add_client_error("get_object", code)
        with pytest.raises(kind):
            S3FileContents(s3, "the-bucket").read(CHAT, "file-1")
    with Stubber(s3) as stubber:
        stubber.add_client_error("put_object", code)
        with pytest.raises(kind):
            S3RunBodies(lambda: s3, "the-bucket").write(CHAT, "run-1", b"[]")


def test_outputs_lie_with_their_owner_and_chat_and_two_ends_of_one_run_do_not_share_a_place() -> None:
    s3 = client("s3")
    bodies = S3RunBodies(lambda: s3, "b")
    written: list[str] = []
    for content in (b"[1]", b"[2]", b"[1]"):
        with Stubber(s3) as stubber:
            stubber.add_response("put_object", {}, {"Bucket": "b", "Key": ANY, "Body": content, "ContentType": ANY})
            written.append(bodies.write(ChatKey("../a b", CHAT.chat_id), "run-1", content))

    assert written[0] == written[2] != written[1]
    assert all(len(address.split("/")) == 4 and ".." not in address.split("/") for address in written)
    assert [file_at(address) for address in written] == [None] * 3, "they are nobody's files"


@pytest.mark.parametrize("error", [EndpointConnectionError(endpoint_url="x"), NoCredentialsError()], ids=str)
def test_a_store_that_cannot_be_reached_may_pass(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    dynamodb, s3 = client("dynamodb"), client("s3")
    monkeypatch.setattr(dynamodb, "_make_api_call", fail)
    monkeypatch.setattr(s3, "_make_api_call", fail)

    with pytest.raises(StoreUnavailable, match="the table 't' cannot be reached"):
        DynamoSessionStore(Table(dynamodb, "t")).read(CHAT)
    with pytest.raises(StoreUnavailable, match="the bucket"):
        S3FileContents(s3, "b").delete(CHAT, "file-1")


# ── Uploads ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_upload_is_bound_to_its_key_its_type_and_its_size() -> None:

    ticket = S3FileContents(client("s3"), "b").presign_upload(
        CHAT, "file-1", max_bytes=1024, content_type="text/csv"
    )

    conditions = json.loads(base64.b64decode(ticket.fields["policy"]))["conditions"]
    assert ["content-length-range", 0, 1024] in conditions
    assert {"Content-Type": "text/csv"} in conditions
    assert {"key": object_key(CHAT, "file-1")} in conditions
    assert {"bucket": "b"} in conditions
    assert ticket.fields["signature" if "signature" in ticket.fields else "x-amz-signature"] not in repr(ticket)
