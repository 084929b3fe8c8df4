"""`make deploy-page`: the page behind CloudFront, for a stage whose service is deployed; and its end."""

import json
import mimetypes
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.stage import Stage, StageError
from local.page import DIST, FIGURE_POLICY, FRAME_POLICY, policy
from local.project import ROOT
from local.sam import SAM

TEMPLATE = ROOT / "deploy" / "page.yaml"
NOT_BUILT = "the page is not built: run `make web`; nothing was changed"
AFTERWARDS = """
The page is at {url}. It asks for an API key: make api-key STAGE={stage} OWNER=… NAME=…
Uploads need {url} among AllowedOrigins of the service, unless that is *.
"""


def deploy(stage: Stage, *, unasked: bool) -> None:
    """The stage has this checkout's page. Raises StageError, or CalledProcessError where SAM fails."""
    outputs = stage.deployed()
    if not (DIST / "index.html").is_file():
        raise StageError(NOT_BUILT)
    own = of_page(stage)
    session = stage.session()
    with tempfile.TemporaryDirectory() as folder:
        parameters = Path(folder, "parameters.yaml")
        parameters.write_text(json.dumps(page_parameters(outputs, session.region_name)))  # JSON is YAML, too
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(
            deploy_command(own, parameters, unasked=unasked),
            cwd=ROOT,
            env={**environment, "SAM_CLI_TELEMETRY": "0"},
            check=True,
        )
    deployed = own.deployed()
    upload(session.client("s3"), deployed["FilesBucketName"], DIST)
    print(AFTERWARDS.format(url=deployed["PageUrl"], stage=stage.name))


def of_page(stage: Stage) -> Stage:
    """The stage's page: a stack of its own, which comes and goes without the service."""
    return replace(stage, stack_name=f"{stage.stack_name}-page")


def page_parameters(outputs: Mapping[str, str], region: str) -> Mapping[str, str]:
    """The parameters of the page's stack, for a service with these outputs."""
    bucket = outputs["BucketName"]
    # Addresses are signed for one of them, whichever boto3 takes in this region.
    files = f"https://{bucket}.s3.amazonaws.com https://{bucket}.s3.{region}.amazonaws.com"
    return {
        "ApiDomain": urlsplit(outputs["ApiUrl"]).netloc,
        "PagePolicy": policy(files),
        "FramePolicy": FRAME_POLICY,
        "FigurePolicy": FIGURE_POLICY,
    }


def deploy_command(own: Stage, parameters: Path, *, unasked: bool) -> list[str]:
    """The SAM CLI's command."""
    return [
        *(str(SAM), "deploy", "--config-env", own.name, "--template-file", str(TEMPLATE)),
        *("--stack-name", own.stack_name, "--parameter-overrides", f"file://{parameters}"),
        *(["--no-confirm-changeset"] if unasked else []),
    ]


def upload(s3: Any, bucket: str, dist: Path) -> None:
    """The bucket has what was built. Pages come last: by then all is there that they name.

    Older assets stay: a tab that is open may still load one.
    """
    for path in in_order(dist):
        s3.upload_file(
            str(path),
            bucket,
            path.relative_to(dist).as_posix(),
            ExtraArgs={
                "ContentType": mimetypes.guess_type(path.name)[0] or "application/octet-stream",
                "CacheControl": "no-cache" if path.parent == dist else "public, max-age=31536000, immutable",
            },
        )


def in_order(dist: Path) -> Iterator[Path]:
    """Yields the files that were built, those with names of their content first."""
    files = sorted(path for path in dist.rglob("*") if path.is_file())
    yield from (path for path in files if path.parent != dist)
    yield from (path for path in files if path.parent == dist)


def remove(stage: Stage) -> None:
    """The stage has no page any more, if it had one."""
    own = of_page(stage)
    outputs = own.outputs()
    if outputs is None:
        return
    session = own.session()
    if bucket := outputs.get("FilesBucketName"):
        empty(session.client("s3"), bucket)
    cloudformation = session.client("cloudformation")
    cloudformation.delete_stack(StackName=own.stack_name)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=own.stack_name)
    print(f"removed {own.stack_name}")


def empty(s3: Any, bucket: str) -> None:
    """Nothing is in the bucket."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        if found := [{"Key": each["Key"]} for each in page.get("Contents", [])]:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})
