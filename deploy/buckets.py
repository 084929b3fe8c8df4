"""What is taken out of S3 for good."""

from collections.abc import Collection
from typing import Any


def remove_objects(s3: Any, bucket: str, *, but: Collection[str] = ()) -> None:
    """Nothing is in the bucket but objects of these keys."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        if found := [{"Key": each["Key"]} for each in page.get("Contents", []) if each["Key"] not in but]:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})


def remove_bucket(s3: Any, bucket: str) -> None:
    """The bucket is gone, and all that was in it; also where it was gone before."""
    try:
        remove_objects(s3, bucket)
        s3.delete_bucket(Bucket=bucket)
    except s3.exceptions.NoSuchBucket:
        return
