"""The template as `sam deploy` deploys it: API Gateway, functions, S3's events, the scheduler, and the commands.

All on one deployment, which `make run-deployed` makes and ends.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from deploy.removal import delete_data
from local import aws, demo
from local.deployed import STACK_NAME
from local.project import ROOT
from sandkeeper.adapters.dynamodb import items
from sandkeeper.model import ChatKey
from sandkeeper_client import Ended, Event, Output, Sandkeeper
from tests.e2e.conftest import EXECUTE, Chat, a_chat
from tests.local_command import local_command, until
from tests.sandbox_server import Server

pytestmark = pytest.mark.timeout(300)

DEPLOYED_WITHIN_S = 240


@dataclass(frozen=True)
class Deployed:
    """Where a deployment answers, and what it calls its parts."""

    api_url: str
    sandbox_url: str
    aws_url: str
    api_key: str
    outputs: Mapping[str, str]

    def client(self, token: str | None = None) -> httpx.Client:
        """Returns a caller of the API; with the deployment's own key, or with another token."""
        headers = {"Authorization": f"Bearer {token or self.api_key}"}
        return httpx.Client(base_url=self.api_url, headers=headers, timeout=60)

    def aws(self, service: str) -> Any:
        """Returns a client of one of its services."""
        return aws.client(service, self.aws_url)

    @property
    def sandboxes(self) -> Server:
        """The sandbox server that its functions use."""
        return Server(self.sandbox_url, pid=0, data_dir=Path())

    def clean_up(self, event: Mapping[str, Any]) -> Any:
        """Returns what the cleanup function answers to the event."""
        name = self.outputs["CleanupFunctionName"]
        answer = self.aws("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
        assert "FunctionError" not in answer, answer["Payload"].read()
        return json.loads(answer["Payload"].read())

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Returns how a command went that `make` would give on this stack."""
        access = {**aws.CREDENTIALS, "AWS_DEFAULT_REGION": aws.REGION, "AWS_ENDPOINT_URL": self.aws_url}
        nobodys = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        environment = {**os.environ, **access, **nobodys, "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"}
        command = [sys.executable, "-m", "deploy", *arguments, "--stack", STACK_NAME]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def deployed() -> Iterator[Deployed]:
    """The deployment, which leaves neither a process nor a file when it is interrupted."""
    with local_command() as local:
        with local.started("run-deployed") as process:
            told = local.ready(process, DEPLOYED_WITHIN_S)
            formation = aws.client("cloudformation", told["aws_url"])
            (stack,) = formation.describe_stacks(StackName=STACK_NAME)["Stacks"]
            outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
            yield Deployed(told["api_url"], told["sandbox_url"], told["aws_url"], told["api_key"], outputs)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        local.assert_nothing_is_left()


@pytest.fixture
def chat(deployed: Deployed) -> Iterator[Chat]:
    """A chat of this test alone."""
    with deployed.client() as client, a_chat(client) as made:
        yield made


def test_the_main_job_passes_gateway_functions_and_s3(deployed: Deployed, tmp_path: Path) -> None:
    """All of the demo's steps but for the two runs that take their time; the next test has a shorter one."""
    with Sandkeeper(deployed.api_url, deployed.api_key) as service:
        job = demo.Chat(service, output=tmp_path)
        for _, step in job.steps():
            if step not in (job.train, job.cancel):
                step()


def test_a_run_of_its_own_is_followed_and_cancelled_through_the_gateway(deployed: Deployed, chat: Chat) -> None:
    """Each reply with events goes through whole: the client asks for those that follow."""
    with Sandkeeper(deployed.api_url, deployed.api_key) as service:
        execution = service.chat(chat.id).start(
            "import itertools, time\nfor lap in itertools.count():\n    print('lap', lap)\n    time.sleep(0.2)"
        )
        heard: list[Event] = []
        for event in execution.events():
            heard.append(event)
            if "lap 20\n" in _told(heard):
                break
        cancelled = execution.cancel()
        heard += execution.events(after=heard[-1].id)

    assert cancelled.error_detail is not None
    assert cancelled.error_detail.kind == "cancelled"
    assert _told(heard) == cancelled.text
    assert isinstance(heard[-1], Ended)


def _told(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Output))


@pytest.mark.parametrize(
    "wrong",
    [
        {"E2bIdlePause": "5000"},
        {"E2bSessionTimeout": "1000"},
        {"AllowedOrigins": "https://chat.example.com/"},
        {"JwtIssuer": "https://id.example.com"},
    ],
    ids=str,
)
def test_parameters_that_could_not_work_are_refused_before_anything_changes(
    deployed: Deployed, wrong: Mapping[str, str]
) -> None:
    """What test_template_parameters.py finds for itself, by another reader of the same template."""
    given = [{"ParameterKey": name, "ParameterValue": value} for name, value in wrong.items()]
    kept = {"ParameterKey": "E2bApiKey", "UsePreviousValue": True}
    (name,) = wrong
    with pytest.raises(ClientError, match=f"ValidationError(.|\n)*{name}"):
        deployed.aws("cloudformation").create_change_set(
            StackName=STACK_NAME,
            ChangeSetName="wrong",
            UsePreviousTemplate=True,
            Parameters=[kept, *given],
            Capabilities=["CAPABILITY_IAM"],
        )


def test_strangers_are_told_who_may_call_and_pages_from_where(deployed: Deployed) -> None:
    refused = httpx.post(f"{deployed.api_url}{EXECUTE}", json={"chatId": "c", "code": "1"})
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    asked = {"Origin": "https://chat.example.com", "Access-Control-Request-Method": "POST"}
    allowed = httpx.options(f"{deployed.api_url}{EXECUTE}", headers=asked)
    assert allowed.headers["access-control-allow-origin"] in ("*", "https://chat.example.com")
    assert "idempotency-key" in allowed.headers["access-control-allow-headers"]


def test_the_scheduler_ends_sessions_that_have_expired(deployed: Deployed, chat: Chat) -> None:
    """A schedule of the template's own target and role, due at once, so that nobody has to wait five minutes."""
    sandbox = chat.run("1")["sandboxId"]
    _expire(deployed, chat.key)
    scheduler = deployed.aws("scheduler")
    (listed,) = scheduler.list_schedules()["Schedules"]
    every_five_minutes = scheduler.get_schedule(Name=listed["Name"])
    assert every_five_minutes["ScheduleExpression"] == "rate(5 minutes)"
    scheduler.create_schedule(
        Name="now",
        ScheduleExpression=f"at({datetime.now(UTC):%Y-%m-%dT%H:%M:%S})",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=every_five_minutes["Target"],
    )
    until(lambda: deployed.sandboxes.states()[sandbox] == "killed", "the end of the sandbox")
    until(lambda: chat.status()["exists"] is False, "the end of the session")


def _expire(deployed: Deployed, chat: ChatKey) -> None:
    """Makes the chat's session one that expired an hour ago."""
    expired_at = datetime.now(UTC) - timedelta(hours=1)
    deployed.aws("dynamodb").update_item(
        TableName=deployed.outputs["TableName"],
        Key=items.row_key(chat, items.SESSION),
        UpdateExpression="SET expiresAt = :then",
        ExpressionAttributeValues=items.typed({":then": items.millis(expired_at)}),
    )


def test_a_tick_by_hand_leaves_live_sessions_and_the_forced_cleanup_ends_them(
    deployed: Deployed, chat: Chat
) -> None:
    chat.run("1")
    assert deployed.clean_up({"source": "sandkeeper.schedule"})["failed"] == 0
    assert chat.status()["exists"] is True

    report = deployed.clean_up({"all": True})
    assert (report["complete"], report["failed"]) == (True, 0)
    assert chat.status()["exists"] is False


def test_an_api_key_is_shown_once_works_is_listed_by_its_id_and_can_be_revoked(deployed: Deployed) -> None:
    given = deployed.command("api-key", "--owner", "auth0|zoe", "--name", "her laptop")
    assert given.returncode == 0, given.stderr
    token = given.stdout.strip()
    with deployed.client(token) as client:
        assert client.get("/api/sessions").json()["count"] == 0

    listed = deployed.command("api-key").stdout
    (row,) = [line for line in listed.splitlines() if "her laptop" in line]
    assert "auth0|zoe" in row
    assert token not in listed

    assert deployed.command("api-key", "--revoke", row.split()[0]).returncode == 0
    assert "her laptop" not in deployed.command("api-key").stdout
    refused = deployed.command("api-key", "--revoke", row.split()[0])
    assert (refused.returncode, refused.stdout) == (2, "")


def test_nothing_was_given_up(deployed: Deployed) -> None:
    sqs = deployed.aws("sqs")
    asked = {"QueueUrl": deployed.outputs["DeadLettersUrl"], "AttributeNames": ["ApproximateNumberOfMessages"]}
    assert sqs.get_queue_attributes(**asked)["Attributes"] == {"ApproximateNumberOfMessages": "0"}


def test_destroying_ends_sessions_removes_the_stack_and_keeps_the_data_until_that_is_deleted_too(
    deployed: Deployed,
) -> None:
    """The last test here, as nothing is left to test afterwards."""
    with deployed.client() as client:
        sandbox = Chat(client, "still-there").run("1")["sandboxId"]
    table, bucket = deployed.outputs["TableName"], deployed.outputs["BucketName"]
    deployed.aws("s3").put_object(Bucket=bucket, Key="files/one", Body=b"1")

    done = deployed.command("destroy", "--yes")

    assert done.returncode == 0, done.stdout + done.stderr
    assert deployed.sandboxes.states()[sandbox] == "killed"
    assert is_gone(lambda: deployed.aws("cloudformation").describe_stacks(StackName=STACK_NAME))
    assert deployed.aws("dynamodb").describe_table(TableName=table)
    assert deployed.aws("s3").head_object(Bucket=bucket, Key="files/one")
    assert table in done.stdout
    assert bucket in done.stdout

    delete_data(_Session(deployed), table, bucket)

    assert is_gone(lambda: deployed.aws("dynamodb").describe_table(TableName=table))
    assert is_gone(lambda: deployed.aws("s3").head_bucket(Bucket=bucket))


@dataclass(frozen=True)
class _Session:
    deployed: Deployed

    def client(self, service: str) -> Any:
        return self.deployed.aws(service)


def is_gone(asking: Callable[[], object]) -> bool:
    """Returns whether AWS knows nothing of it."""
    try:
        asking()
    except ClientError:
        return True
    return False
