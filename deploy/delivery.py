"""`make deploy`: builds, and deploys what was built as the stage says, with the page where it has one."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy import publication
from deploy.buckets import remove_bucket
from deploy.stage import Stage, StageError
from local.project import ROOT
from local.sam import SAM

FIRST_TIME = """\
The stack {stack!r} is not there yet, and needs the API key of your E2B account: set E2B_API_KEY, or run this in a
terminal, where it asks.
"""
AFTERWARDS = """
{stack} answers at {url}

  make api-key STAGE={stage} OWNER=… NAME=…    lets somebody call it
"""


def deploy(stage: Stage, *, unasked: bool) -> None:
    """The stage has this checkout's code and template, and its page if it has one.

    Raises StageError, or CalledProcessError where a tool fails.
    """
    before = stage.outputs()
    with _secrets(os.environ) as secrets:
        command = deploy_command(
            stage, is_new=before is None, secrets=secrets, unasked=unasked, terminal=sys.stdin.isatty()
        )
        if publication.is_expected(stage, before):
            publication.build()  # first, so that one that cannot be built changes nothing
        environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "PYTHON": sys.executable}
        environment.pop("PYTHONPATH", None)  # it would show the SAM CLI our packages beside its own
        for each in ([str(SAM), "build", "--config-env", stage.name], command):
            subprocess.run(each, cwd=ROOT, env=environment, check=True)
    outputs = stage.deployed()
    update_page(stage.session(), before or {}, outputs)
    print(AFTERWARDS.format(stack=stage.stack_name, url=outputs["ApiUrl"], stage=stage.name))


def update_page(session: Any, before: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """The stack serves this checkout's page, if it has one; of one that it had before nothing is left."""
    bucket = outputs.get("PageBucketName")
    if bucket:
        publication.build()
        publication.publish(session, outputs)
    if before.get("PageBucketName", bucket) != bucket:
        remove_bucket(session.client("s3"), before["PageBucketName"])


def deploy_command(stage: Stage, *, is_new: bool, secrets: Path | None, unasked: bool, terminal: bool) -> list[str]:
    """The SAM CLI's command. A new stack without a key given is asked about, in a terminal."""
    guided = is_new and secrets is None
    if guided and (unasked or not terminal):
        raise StageError(FIRST_TIME.format(stack=stage.stack_name))
    # What is given here replaces what the stage says, so that has to be said again.
    overrides = [*stage.overrides, f"file://{secrets}"] if secrets else []
    return [
        *(str(SAM), "deploy", "--config-env", stage.name),
        *(["--guided"] if guided else []),
        *(["--no-confirm-changeset"] if unasked else []),
        *(["--parameter-overrides", *overrides] if overrides else []),
    ]


@contextmanager
def _secrets(environment: Mapping[str, str]) -> Iterator[Path | None]:
    """A file with the E2B key, where there is one: on the command line, everybody on the machine could read it."""
    key = environment.get("E2B_API_KEY")
    if not key:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "parameters.yaml")
        path.touch(mode=0o600)
        path.write_text(json.dumps({"E2bApiKey": key}))  # JSON is YAML, too
        yield path
