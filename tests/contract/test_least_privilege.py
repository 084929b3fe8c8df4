"""What the functions ask of AWS is what their policies in `template.yaml` allow, no less and no more.

All of their work is done on moto, by the real wiring; only the sandboxes are in memory. Every request is noted on
its way out, as the action and resource that IAM would judge it by, and compared with the policies both ways.
"""

import base64
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus

import boto3
import httpx2
import jwt
import pytest
from fastapi.testclient import TestClient
from mcp import Client
from moto import mock_aws

from local.template import Template
from sandkeeper import wiring
from sandkeeper.adapters.dynamodb.items import row_key
from sandkeeper.adapters.memory import MemorySandboxProvider
from sandkeeper.adapters.s3 import PART_BYTES, object_key
from sandkeeper.handlers import CleanupHandler, IngestHandler
from sandkeeper.http.app import create_app
from sandkeeper.mcp.app import create_app as create_mcp
from sandkeeper.model import (
    ChangedFile,
    Changes,
    ChatKey,
    Display,
    RunEnd,
    RunOutcome,
    SandboxRef,
    Stream,
    utc_moment,
)
from sandkeeper.ports import SandboxGone, SandboxSpec
from sandkeeper.services import marks
from sandkeeper.wiring import ApiWiring, McpWiring, register_api_key
from tests.canaries import CHOICES, quoted_in
from tests.contract.conftest import one_by_one
from tests.contract.permissions import REGION, STACK_ID, Grant, Recorder, covers, policies, table_arn
from tests.mcp_client import Connection, text_of
from tests.mcp_tour import McpTour
from tests.tour import Tour

TABLE, BUCKET = "stack-table", f"sandkeeper-{STACK_ID}"
OWNER, TOKEN = "auth0|ada", "sk_least_privilege"
CHAT = ChatKey(OWNER, "chat-1")
JWT_SECRET = "s" * 40
OUT, BROKEN = "/home/user/out.bin", "/home/user/broken.bin"
CONTEXT = SimpleNamespace(get_remaining_time_in_millis=lambda: 200_000, aws_request_id="request-1")

ALLOWED_WITHOUT_A_CALL = {
    "s3:ListBucket": "nobody lists; it makes S3 answer 404 in place of 403 for an object that is not there",
}
"""What policies allow though no request asks for it by name, and why."""

# ── The functions' work ─────────────────────────────────────────────────────────────────────────────


class Sandboxes(MemorySandboxProvider):
    """Sandboxes of which one goes while a file is read from it: the one that has `BROKEN`."""

    def read_file(self, sandbox: SandboxRef, path: str) -> Iterator[bytes]:
        """See `SandboxProvider.read_file`."""
        yield from super().read_file(sandbox, path)
        if path == BROKEN:
            raise SandboxGone(sandbox.sandbox_id)


def much() -> RunOutcome:
    """Returns what is too large for a row and for a reply, and a file that is copied in parts."""
    shown = Display({"image/png": base64.b64encode(bytes(4_000_000)).decode()})
    return RunOutcome([shown], RunEnd.FINISHED, Changes([ChangedFile(OUT, PART_BYTES + 1)]))


OUTCOMES: dict[str, RunOutcome | None] = {
    "goes on": None,
    "much": much(),
    "prints": RunOutcome([Stream("stdout", "x" * 400_000)], RunEnd.FINISHED),
    "breaks off": RunOutcome([], RunEnd.FINISHED, Changes([ChangedFile(BROKEN, PART_BYTES + 1)])),
}
"""What comes of code; of any other code a small file."""


@dataclass
class Workload:
    """All that the functions do."""

    recorder: Recorder
    sandboxes: Sandboxes = field(default_factory=Sandboxes)

    def __post_init__(self) -> None:
        self.sandboxes.program = self._program
        self.s3 = boto3.client("s3", region_name=REGION)
        self.dynamodb = boto3.client("dynamodb", region_name=REGION)

    def _program(self, sandbox: SandboxRef, code: str) -> RunOutcome | None:
        """Stands for a kernel: code is what is to come of it."""
        self.sandboxes.alive[sandbox.sandbox_id] |= {path: bytes(PART_BYTES + 1) for path in (OUT, BROKEN)}
        return OUTCOMES.get(code, RunOutcome([], RunEnd.FINISHED, Changes([ChangedFile(OUT, PART_BYTES + 1)])))

    def do_all(self) -> None:
        """Lets every function do all that it does."""
        self.read()
        self.serve()
        self.serve_mcp()
        self.clean_up()

    def serve(self) -> None:
        """Calls every endpoint, and has runs whose output is large, or whose files cannot be kept."""
        with self.caller() as client:
            tour = Tour(client, lambda file_id: self.put_object(CHOICES.chat, file_id), CHOICES)
            tour()
            assert tour.untouched() == set()
            assert [status for statuses in tour.called.values() for status in statuses if status >= 500] == []
            replies = [self.run(client, code) for code in ("much", "breaks off")]
            assert [reply.status_code for reply in replies] == [200, 200]
            run_id = replies[0].json()["executionId"]
            assert client.get(f"/api/chats/{CHAT.chat_id}/executions/{run_id}").json()["result"]["results"][0][
                "url"
            ]
            self.keep_much(client)
            signed = client.get("/api/sessions", headers={"Authorization": f"Bearer {jwt_of(OWNER)}"})
            assert signed.json()["count"] == 1

    def keep_much(self, client: TestClient) -> None:
        """Has a notebook whose cell shows more than fits into a row, until it is deleted."""
        shown = {"output_type": "stream", "name": "stdout", "text": "x" * 200_000}
        file = {"nbformat": 4, "cells": [{"cell_type": "code", "source": "1", "outputs": [shown]}]}
        made = client.post(f"/api/chats/{CHAT.chat_id}/notebooks/import", json=file)
        assert made.json()["cells"][0]["outputs"] == [shown]
        gone = client.delete(made.headers["location"], headers={"If-Match": made.headers["etag"]})
        assert gone.status_code == 204

    def serve_mcp(self) -> None:
        """Has a client of MCP use every tool, in a chat with files, with large outputs among what comes of it."""
        self.recorder.begin("McpFunction")
        made = McpWiring()
        vars(made)["sandboxes"] = self.sandboxes
        url, transport = "http://mcp.test/mcp", httpx2.ASGITransport(create_mcp(made))

        async def use(client: Client) -> None:
            tour = McpTour(client, replace(CHOICES, chat=CHAT.chat_id, file_name="data.csv"))
            await tour()
            assert tour.untouched() == set()
            for code in ("much", "breaks off"):
                ran = await client.call_tool("run_python", {"chatId": CHAT.chat_id, "code": code})
                run_id = text_of(ran).rpartition("(execution ")[2][:26]
                await client.call_tool("wait_for_run", {"chatId": CHAT.chat_id, "executionId": run_id})
            await self.keep_much_of_mcp(client)

        Connection(url, TOKEN, transport).ask(use)
        signed = Connection(f"{url}?chatId={CHAT.chat_id}", jwt_of(OWNER), transport)
        assert "data.csv" in text_of(signed.call("list_files"))
        made.beside.shutdown()

    async def keep_much_of_mcp(self, client: Client) -> None:
        """Has a notebook whose cell shows more than fits into a row, until the cell is deleted."""
        cells = [{"source": "prints"}]
        asked = {"chatId": CHAT.chat_id, "title": "much", "cells": cells}
        made = json.loads(text_of(await client.call_tool("create_notebook", asked)))
        one = {"chatId": CHAT.chat_id, "notebookId": made["notebookId"]}
        await client.call_tool("run_notebook", one)
        gone = await client.call_tool("update_notebook", {**one, "version": made["version"], "cells": []})
        assert json.loads(text_of(gone))["cells"] == []

    def run(self, client: TestClient, code: str, *, chat: str | None = None, mode: str = "auto") -> Any:
        return client.post(
            "/api/jupyter/execute", json={"chatId": chat or CHAT.chat_id, "code": code, "mode": mode}
        )

    @contextmanager
    def caller(self) -> Iterator[TestClient]:
        """Returns a caller of the API as it is wired; its threads have ended afterwards."""
        self.recorder.begin("ApiFunction")
        made = ApiWiring()
        vars(made)["sandboxes"] = self.sandboxes
        with TestClient(create_app(made), headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            yield client
        made.beside.shutdown()

    def put_object(self, chat: str, file_id: str, content: bytes = b"a,b\n1,2\n") -> str:
        """Does what callers do with a ticket, and returns the object's key."""
        key = object_key(ChatKey(OWNER, chat), file_id)
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return key

    def read(self) -> None:
        """Has files read: one, one in its place, one that cannot be read, one that is gone."""
        tickets = []
        with self.caller() as client:
            for replace in (False, True, False):
                body = {"fileName": "data.csv", "size": 100, "contentType": "text/csv", "replace": replace}
                reply = client.post(f"/api/chats/{CHAT.chat_id}/files", json=body)
                assert reply.status_code == 201, reply.text
                tickets.append(reply.json()["fileId"])
        keys = [self.put_object(CHAT.chat_id, file_id) for file_id in tickets[:2]]
        keys += [self.put_object(CHAT.chat_id, tickets[2], b"PK\x03\x04 is no archive"), object_key(CHAT, "gone")]
        self.recorder.begin("FileIngestFunction")
        handler = IngestHandler()
        for key in keys:
            assert handler({"Records": [{"s3": {"object": {"key": quote_plus(key)}}}]}, CONTEXT) == {"files": 1}
        with self.caller() as client:
            files = client.get(f"/api/chats/{CHAT.chat_id}/files").json()["files"]
        assert [(file["fileId"], file["status"]) for file in files] == [
            (tickets[1], "ready"),
            (tickets[2], "failed"),
        ]

    def clean_up(self) -> None:
        """Leaves runs that nobody asks about any more and a sandbox without a session, and has all of it ended."""
        with self.caller() as client:
            for code in ("much", "breaks off"):
                chat = ChatKey(OWNER, code.replace(" ", "-"))
                left = self.run(client, "goes on", chat=chat.chat_id, mode="async").json()["executionId"]
                self.sandboxes.finish(left, OUTCOMES[code] or much())
                self.let_expire(chat)
        metadata = {**marks.of_stack("stack"), "claim": "nobody's"}
        spec = SandboxSpec(idempotency_key="x", lifetime=timedelta(hours=1), pauses=True, metadata=metadata)
        self.sandboxes.create(spec, within=timedelta(seconds=1))
        self.sandboxes.started = dict.fromkeys(self.sandboxes.started, utc_moment(0))
        self.recorder.begin("CleanupFunction")
        handler = CleanupHandler()
        vars(handler._wiring)["sandboxes"] = self.sandboxes
        assert handler({}, CONTEXT) == report(ended=2, orphans=1, live=2)
        assert handler({"all": True}, CONTEXT) == report(ended=1, orphans=0, live=0)
        assert handler._wiring.e2b_api_key == "e2b_key"
        handler._wiring.beside.shutdown()

    def let_expire(self, key: ChatKey) -> None:
        """Lets the session have been unused, and its run unattended, for too long."""
        self.dynamodb.update_item(
            TableName=TABLE,
            Key=row_key(key, "SESSION"),
            UpdateExpression="SET expiresAt = :past, runUntil = :past",
            ExpressionAttributeValues={":past": {"N": "1"}},
        )


def report(*, ended: int, orphans: int, live: int) -> dict[str, Any]:
    """Returns what cleanup answers when nothing went wrong."""
    return {"ended": ended, "skipped": 0, "orphans": orphans, "failed": 0, "live": live, "complete": True}


def jwt_of(owner: str) -> str:
    """Returns a token of the shared secret."""
    return jwt.encode({"sub": owner, "exp": 4_000_000_000}, JWT_SECRET, "HS256")


# ── Both ways ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Seen:
    """What functions asked, and what they may."""

    asked: dict[str, set[Grant]]
    allowed: dict[str, set[Grant]]
    log: str


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """Returns what all the work has asked, done once for all tests here."""
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        arns = deployed()
        names = {"TABLE_NAME": TABLE, "BUCKET_NAME": BUCKET, "STACK_NAME": "stack", "AWS_DEFAULT_REGION": REGION}
        names |= {"E2B_API_KEY_SECRET_ID": arns["E2bApiKeySecret"], "JWT_SECRET_ID": arns["JwtSecretSecret"]}
        names |= {"POWERTOOLS_SERVICE_NAME": "least_privilege", "POWERTOOLS_METRICS_NAMESPACE": "Sandkeeper"}
        for name, value in names.items():
            patch.setenv(name, value)
        register_api_key(TOKEN, OWNER, "test")
        recorder, real = Recorder(), wiring._client
        patch.setattr(wiring, "_client", lambda name: recorder.watched(one_by_one(real(name)), recorder.function))
        with logged() as log:
            Workload(recorder).do_all()
        yield Seen(recorder.asked, policies(arns), log.getvalue())


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Has every library log what it will, as in Lambda with the level DEBUG, until we have it do otherwise."""
    root, log = logging.getLogger(), io.StringIO()
    handler, level = logging.StreamHandler(log), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield log
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def deployed() -> dict[str, str]:
    """Makes what the template makes, and returns the ARNs by logical id."""
    clients = {name: boto3.client(name, region_name=REGION) for name in ("dynamodb", "s3", "secretsmanager")}
    clients["dynamodb"].create_table(TableName=TABLE, **Template.of_this_project().table())
    clients["s3"].create_bucket(Bucket=BUCKET)
    secrets = {"E2bApiKeySecret": "e2b_key", "JwtSecretSecret": JWT_SECRET}
    return {
        "Table": table_arn(TABLE),
        "Bucket": f"arn:aws:s3:::{BUCKET}",
        **{
            name: clients["secretsmanager"].create_secret(Name=name, SecretString=value)["ARN"]
            for name, value in secrets.items()
        },
    }


FUNCTIONS = ["ApiFunction", "CleanupFunction", "FileIngestFunction", "McpFunction"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_whatever_a_function_asks_its_policy_allows(seen: Seen, function: str) -> None:
    refused = [ask for ask in seen.asked[function] if not any(covers(may, ask) for may in seen.allowed[function])]

    assert seen.asked[function]
    assert sorted(refused) == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_whatever_a_policy_allows_its_function_asks(seen: Seen, function: str) -> None:
    unused = [
        may
        for may in seen.allowed[function]
        if may[0] not in ALLOWED_WITHOUT_A_CALL and not any(covers(may, ask) for ask in seen.asked[function])
    ]

    assert sorted(unused) == []


def test_the_functions_of_the_template_are_those_that_were_at_work(seen: Seen) -> None:
    assert set(seen.allowed) == set(seen.asked) == set(FUNCTIONS)
    assert {action for may in seen.allowed.values() for action, _ in may} >= ALLOWED_WITHOUT_A_CALL.keys()


def test_the_clients_of_aws_log_nothing_that_callers_send(seen: Seen) -> None:
    """With the level DEBUG they log every request, as it is sent."""
    assert "dynamodb" in seen.log  # of clients that were made before any function was
    assert quoted_in(seen.log) == []


@pytest.mark.parametrize(
    ("asked", "is_covered"),
    [
        (("s3:GetObject", "arn:aws:s3:::b/files/o=x/c=y/1"), True),
        (("s3:GetObject", "arn:aws:s3:::b/runs/1"), False),
        (("s3:GetObject", "arn:aws:s3:::bb/files/1"), False),
        (("s3:PutObject", "arn:aws:s3:::b/files/1"), False),
    ],
)
def test_a_grant_covers_its_own_action_and_resource_alone(asked: Grant, is_covered: bool) -> None:
    assert covers(("s3:GetObject", "arn:aws:s3:::b/files/*"), asked) is is_covered
