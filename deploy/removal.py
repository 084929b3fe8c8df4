"""`make destroy`: ends all sessions, removes the stack, and keeps its data unless told otherwise."""

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from botocore.config import Config

from deploy.buckets import remove_bucket
from deploy.stage import Stage, StageError
from local.project import ROOT
from local.sam import SAM

ANYWAY = "sam delete would remove it all the same, and leave its sandboxes to themselves"
ROUND_WITHIN_S = 300
WHAT_HAPPENS = """\
This removes the stack {stack!r} in {where}, with everything that runs, after ending all sessions, and its page.
{data} table   {table}
{data} bucket  {bucket}
"""
KEPT = """\
The data is kept, and costs what it takes to store it. To delete it, when you are sure:

  aws s3 rb --force s3://{bucket}
  aws dynamodb delete-table --table-name {table}
"""


def destroy(stage: Stage, *, with_data: bool, unasked: bool) -> None:
    """The stack is gone; its table and bucket are, too, where that was asked for. Raises StageError if refused."""
    outputs = stage.deployed()
    session = stage.session()
    table, bucket = outputs["TableName"], outputs["BucketName"]
    where = f"account {session.client('sts').get_caller_identity()['Account']}, region {session.region_name}"
    data = "DELETES" if with_data else "keeps"
    print(WHAT_HAPPENS.format(stack=stage.stack_name, where=where, data=data, table=table, bucket=bucket))
    if not unasked:
        confirm(stage.stack_name)
    end_sessions(session, outputs)
    _delete_stack(stage, session.region_name)
    if "PageBucketName" in outputs:
        remove_bucket(session.client("s3"), outputs["PageBucketName"])  # it has nothing but what was built
    if with_data:
        delete_data(session, table, bucket)
    else:
        print(KEPT.format(table=table, bucket=bucket))


def confirm(stack_name: str) -> None:
    """Returns if somebody types the stack's name. Raises StageError otherwise."""
    try:
        typed = input(f"Type {stack_name} to go on: ")
    except EOFError:
        typed = ""
    if typed.strip() != stack_name:
        raise StageError("nothing was removed; type the stack's name to go on, or say YES=1")


def end_sessions(session: Any, outputs: Mapping[str, str]) -> None:
    """No session and no sandbox of the stack is left: once it is gone, nobody cleans up after it."""
    once = Config(read_timeout=ROUND_WITHIN_S, retries={"total_max_attempts": 1})
    functions = session.client("lambda", config=once)
    while True:
        answer = functions.invoke(FunctionName=outputs["CleanupFunctionName"], Payload=json.dumps({"all": True}))
        report = json.loads(answer["Payload"].read())
        if answer.get("FunctionError"):
            raise StageError(
                f"sessions cannot be ended: {report.get('errorMessage')}; nothing was removed ({ANYWAY})"
            )
        print(f"ended {report['ended']} sessions, {report['failed']} failed", flush=True)
        if report["complete"] and not report["failed"]:
            return
        if not report["ended"]:
            raise StageError(f"sessions cannot be ended, see cleanup's log; nothing was removed ({ANYWAY})")


def delete_data(session: Any, table: str, bucket: str) -> None:
    """Table and bucket are gone, and all that was in them."""
    remove_bucket(session.client("s3"), bucket)
    session.client("dynamodb").delete_table(TableName=table)
    print(f"deleted {bucket} and {table}")


def _delete_stack(stage: Stage, region: str) -> None:
    profile = ["--profile", stage.profile] if stage.profile else []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [str(SAM), "delete", "--stack-name", stage.stack_name, "--region", region, "--no-prompts", *profile],
        cwd=ROOT,
        env={**environment, "SAM_CLI_TELEMETRY": "0"},
        check=True,
    )
