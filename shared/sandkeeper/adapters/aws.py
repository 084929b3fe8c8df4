"""Clients of AWS, and secrets."""

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sandkeeper.errors import NotConfigured


def client(service: str, *, connections: int, is_elsewhere: bool) -> Any:
    """Returns a boto3 client with bounded waits: one call of ours must fit into 28 s, retries included.

    `is_elsewhere`: an endpoint is named, as that of the local stack.
    """
    return boto3.client(
        service,
        config=Config(
            connect_timeout=2,
            read_timeout=4,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=connections,
            tcp_keepalive=True,
            # Saves a quarter of a small call's time. Requests are built by our adapters alone, and the contract
            # suites hold these to the emulators.
            parameter_validation=False,
            # The usual one tells versions and platform, and is put together anew for every request: a fifth of it.
            user_agent="sandkeeper",
            # Addresses to download from would be signed the old way else, which S3 takes in few regions only.
            signature_version="s3v4" if service == "s3" else None,
            # By the region's own name: by the one for all, a young bucket answers with a redirect. An endpoint that
            # is named has one name for all buckets.
            s3={"addressing_style": "path" if is_elsewhere else "virtual"},
        ),
    )


def secret(secrets: Any, secret_id: str, setting: str) -> str:
    """Returns a secret's text. Raises `NotConfigured`, naming the setting that led to it."""
    try:
        text: str = secrets.get_secret_value(SecretId=secret_id)["SecretString"]
    except (ClientError, BotoCoreError, KeyError) as error:
        raise NotConfigured(f"the secret that {setting} names cannot be read: {type(error).__name__}") from error
    return text
