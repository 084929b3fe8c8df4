"""Results that are too large for a reply, in one S3 bucket."""

import re
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

from sandkeeper.adapters.s3 import folder_of, our_errors
from sandkeeper.model import ChatKey
from sandkeeper.ports import Link

LINK_LASTS = timedelta(hours=1)

_PASSIVE = re.compile(r"image/(png|jpeg|gif|webp)|text/(plain|markdown|csv)|application/([a-z0-9.+-]+\+)?json")
"""Types that no browser runs anything of. All others are served as bytes, whatever a program calls them."""


class S3ResultStore:
    """`ResultStore` in an S3 bucket: an object's key tells its owner, its chat and its content."""

    def __init__(self, client: Callable[[], Any], bucket: str) -> None:
        """`client` is asked when there is such a result, which is seldom."""
        self._client = client
        self._bucket = bucket

    def keep(self, key: ChatKey, content: bytes, mime_type: str) -> Link:
        """See `ResultStore.keep`. To be downloaded: no browser shows it within the bucket's origin."""
        digest = sha256(mime_type.encode() + b"\n" + content).hexdigest()
        address = f"results/{folder_of(key)}/{digest}"
        with our_errors(self._bucket):
            self._client().put_object(
                Bucket=self._bucket,
                Key=address,
                Body=content,
                ContentType=_served_as(mime_type),
                ContentDisposition="attachment",
            )
            url = self._client().generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": address},
                ExpiresIn=round(LINK_LASTS.total_seconds()),
            )
        return Link(url, size_bytes=len(content), expires_in=LINK_LASTS)


def _served_as(mime_type: str) -> str:
    if not _PASSIVE.fullmatch(mime_type):
        return "application/octet-stream"
    return f"{mime_type}; charset=utf-8" if mime_type.startswith("text/") else mime_type
