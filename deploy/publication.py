"""The page of a stack that has one (`Page=on`): built by `make web`, and put where CloudFront hands it out.

A browser that asks in between gets the old page or the new one, with all of its files: what a page names is there
before the page is, and goes after it.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.buckets import remove_objects
from deploy.stage import Stage, StageError
from local.page import DIST
from local.project import ROOT

INDEX = "index.html"
NAMED_BY_CONTENT = "assets/"
KEPT = "public, max-age=31536000, immutable"
ASKED_FOR_AGAIN = "no-cache"
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
"""Of all that a build has. JSON is not among it: locally, `/config.json` is what hands out a key."""

ORIGIN_IS_MISSING = """
The page cannot upload files: AllowedOrigins does not name it. Add {url} in `parameter_overrides` of the stage in
samconfig.toml, and deploy again.
"""


def is_expected(stage: Stage, outputs: Mapping[str, str] | None) -> bool:
    """Returns whether the stage says that there is a page; if it says nothing, whether its stack has one."""
    said = [each.removeprefix("Page=") for text in stage.overrides for each in text.split()]
    if "on" in said or "off" in said:
        return "on" in said
    return "PageUrl" in (outputs or {})


def build() -> None:
    """`web/dist` has this checkout's page. Raises CalledProcessError where that fails, which has said why."""
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS"}}
    subprocess.run(["make", "web"], cwd=ROOT, env=environment, check=True)


def publish(session: Any, outputs: Mapping[str, str], dist: Path = DIST) -> None:
    """The stack serves this build, and nothing of those before. Raises StageError if it is not one."""
    s3, bucket = session.client("s3"), outputs["PageBucketName"]
    files = _files(dist)
    for key, path in files.items():
        with path.open("rb") as body:
            s3.put_object(Bucket=bucket, Key=key, Body=body, **_headers(key))
    remove_objects(s3, bucket, but=files)
    again = [f"/{key}" for key in files if not key.startswith(NAMED_BY_CONTENT)]
    session.client("cloudfront").create_invalidation(
        DistributionId=outputs["PageDistributionId"],
        InvalidationBatch={
            "Paths": {"Quantity": len(again), "Items": again},
            "CallerReference": os.urandom(16).hex(),
        },
    )
    print(f"page    {outputs['PageUrl']}")
    if not _may_upload(s3, outputs):
        print(ORIGIN_IS_MISSING.format(url=outputs["PageUrl"]))


def _files(dist: Path) -> dict[str, Path]:
    """Returns a build's files by key, each after those that it names: assets, frames, and the page itself."""
    found = {path.relative_to(dist).as_posix(): path for path in dist.rglob("*") if path.is_file()}
    if INDEX not in found:
        raise StageError(f"{dist} has no {INDEX}; build the page by make web")
    if unknown := [key for key in found if Path(key).suffix not in CONTENT_TYPES]:
        raise StageError(
            f"the page has {unknown[0]!r}, whose type is not in CONTENT_TYPES of {Path(__file__).name}"
        )
    ordered = sorted(found, key=lambda key: (key == INDEX, not key.startswith(NAMED_BY_CONTENT), key))
    return {key: found[key] for key in ordered}


def _headers(key: str) -> dict[str, str]:
    return {
        "ContentType": CONTENT_TYPES[Path(key).suffix],
        "CacheControl": KEPT if key.startswith(NAMED_BY_CONTENT) else ASKED_FOR_AGAIN,
    }


def _may_upload(s3: Any, outputs: Mapping[str, str]) -> bool:
    """Returns whether a browser on the page may send files to the bucket of uploads, whose origin is another one.

    The template cannot see to it: bucket → distribution → gateway → function → bucket would be a circle.
    """
    rules = s3.get_bucket_cors(Bucket=outputs["BucketName"])["CORSRules"]
    return any({"*", outputs["PageUrl"]} & {*rule["AllowedOrigins"]} for rule in rules)
