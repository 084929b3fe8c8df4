"""The local AWS: ministack's process, and in it the table and bucket of `template.yaml`."""

import os
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from local.project import ROOT
from local.template import Template

REGION = "us-east-1"
ACCOUNT = "000000000000"
"""Of the local AWS, and of whatever is deployed to it."""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
TABLE = "sandkeeper-local"
BUCKET = "sandkeeper-local-files"
QUEUE = "sandkeeper-local-events"

# An environment of its own, since it pins botocore exactly.
PYTHON = ROOT / ".envs" / "aws" / "bin" / "python"
COMMAND = [str(PYTHON), "-m", "ministack"]


def server_environment(host: str, port: int, folder: Path) -> dict[str, str]:
    """Ministack's environment: state in memory alone, and no look at the user's AWS files or Docker."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        **CREDENTIALS,  # it takes no address to download from that others have signed
        "BIND_HOST": host,
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "STATE_DIR": str(folder / "state"),
        "S3_DATA_DIR": str(folder / "s3"),
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
    }


def client(service: str, url: str) -> Any:
    """A boto3 client of the local AWS, whatever the user's own AWS settings are."""
    nowhere = (None, None, os.devnull, None)
    session = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": nowhere,
            "credentials_file": nowhere,
        }
    )
    return boto3.session.Session(botocore_session=session).client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(
            proxies={}, retries={"mode": "standard"}, signature_version="s3v4" if service == "s3" else None
        ),
    )


def queue_url(sqs: Any) -> str:
    """Where S3's events wait for the ingest handler."""
    return str(sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"])


def create_resources(url: str, template: Template) -> None:
    """Table, bucket and the queue of S3's events exist, as the template describes them."""
    create_table(client("dynamodb", url), template)
    sqs, s3 = client("sqs", url), client("s3", url)
    queue = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    create_bucket(s3, template, arn)


def create_table(dynamodb: Any, template: Template) -> None:
    """The template's table, with its indexes and time to live."""
    dynamodb.create_table(TableName=TABLE, **template.table())
    dynamodb.update_time_to_live(TableName=TABLE, TimeToLiveSpecification=template.time_to_live())


def create_bucket(s3: Any, template: Template, queue_arn: str) -> None:
    """The template's bucket, with its CORS rules, and its notifications to the queue."""
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration=template.cors())
    s3.put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration=template.notifications(queue_arn)
    )
