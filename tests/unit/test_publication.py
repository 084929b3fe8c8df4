"""How `make deploy` puts the page where CloudFront hands it out, and what becomes of it afterwards."""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from deploy import delivery, publication, removal
from deploy.buckets import remove_bucket
from deploy.stage import Stage, StageError

UPLOADS, PAGE = "keeper-uploads", "keeper-page"


@pytest.fixture
def session() -> Iterator[Any]:
    """An account with a stack that has a page."""
    with mock_aws():
        session = boto3.Session(region_name="us-east-1")
        s3 = session.client("s3")
        s3.create_bucket(Bucket=UPLOADS)
        allow(s3, "*")
        s3.create_bucket(Bucket=PAGE)
        yield session


@pytest.fixture
def outputs(session: Any) -> Mapping[str, str]:
    """What CloudFormation tells of that stack."""
    config = {
        "CallerReference": "once",
        "Comment": "",
        "Enabled": True,
        "Origins": {
            "Quantity": 1,
            "Items": [
                {
                    "Id": "files",
                    "DomainName": f"{PAGE}.s3.us-east-1.amazonaws.com",
                    "S3OriginConfig": {"OriginAccessIdentity": ""},
                }
            ],
        },
        "DefaultCacheBehavior": {"TargetOriginId": "files", "ViewerProtocolPolicy": "redirect-to-https"},
    }
    made = session.client("cloudfront").create_distribution(DistributionConfig=config)["Distribution"]
    return {
        "ApiUrl": "https://api.example.com",
        "BucketName": UPLOADS,
        "PageBucketName": PAGE,
        "PageDistributionId": made["Id"],
        "PageUrl": f"https://{made['DomainName']}",
    }


def allow(s3: Any, *origins: str) -> None:
    rule = {"AllowedOrigins": [*origins], "AllowedMethods": ["POST"]}
    s3.put_bucket_cors(Bucket=UPLOADS, CORSConfiguration={"CORSRules": [rule]})


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """What a build leaves."""
    return built(tmp_path / "dist", "new")


def built(dist: Path, name: str) -> Path:
    (dist / "assets").mkdir(parents=True)
    (dist / "assets" / f"index-{name}.js").write_text("run()")
    (dist / "assets" / f"style-{name}.css").write_text("p { }")
    (dist / "index.html").write_text(f"<!doctype html>{name}")
    (dist / "frame.html").write_text("<!doctype html>frame")
    (dist / "icon.svg").write_text("<svg/>")
    return dist


def calls(session: Any) -> list[tuple[str, Any]]:
    """Returns what is asked of AWS from now on, as it is asked: the operation, and the key or keys or paths."""
    asked: list[tuple[str, Any]] = []

    def note(params: Mapping[str, Any], model: Any, **_: Any) -> None:
        match model.name:
            case "PutObject":
                asked.append(("put", params["Key"]))
            case "DeleteObjects":
                asked.append(("delete", {each["Key"] for each in params["Delete"]["Objects"]}))
            case "CreateInvalidation":
                asked.append(("invalidate", {*params["InvalidationBatch"]["Paths"]["Items"]}))

    session.events.register("provide-client-params", note)
    return asked


def keys(session: Any, bucket: str) -> set[str]:
    return {each["Key"] for each in session.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])}


def test_whoever_asks_in_between_gets_one_page_with_all_of_its_files(
    session: Any, outputs: Mapping[str, str], dist: Path, tmp_path: Path
) -> None:
    publication.publish(session, outputs, built(tmp_path / "older", "old"))
    asked = calls(session)
    publication.publish(session, outputs, dist)
    assert asked == [
        ("put", "assets/index-new.js"),
        ("put", "assets/style-new.css"),
        ("put", "frame.html"),
        ("put", "icon.svg"),
        ("put", "index.html"),
        ("delete", {"assets/index-old.js", "assets/style-old.css"}),
        ("invalidate", {"/index.html", "/frame.html", "/icon.svg"}),
    ]
    assert keys(session, PAGE) == {path.relative_to(dist).as_posix() for path in dist.rglob("*.*")}


def test_the_same_build_again_changes_nothing(session: Any, outputs: Mapping[str, str], dist: Path) -> None:
    for _ in range(2):
        publication.publish(session, outputs, dist)
        assert keys(session, PAGE) == {path.relative_to(dist).as_posix() for path in dist.rglob("*.*")}


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        ("index.html", ("text/html; charset=utf-8", "no-cache")),
        ("frame.html", ("text/html; charset=utf-8", "no-cache")),
        ("icon.svg", ("image/svg+xml", "no-cache")),
        ("assets/index-new.js", ("text/javascript; charset=utf-8", "public, max-age=31536000, immutable")),
        ("assets/style-new.css", ("text/css; charset=utf-8", "public, max-age=31536000, immutable")),
    ],
)
def test_files_say_what_they_are_and_how_long_they_may_be_kept(
    session: Any, outputs: Mapping[str, str], dist: Path, key: str, headers: tuple[str, str]
) -> None:
    publication.publish(session, outputs, dist)
    found = session.client("s3").get_object(Bucket=PAGE, Key=key)
    assert (found["ContentType"], found["CacheControl"]) == headers


@pytest.mark.parametrize("name", ["config.json", ".env", "assets/notes.txt"])
def test_what_no_build_has_is_not_put_there_and_nothing_else_then(
    session: Any, outputs: Mapping[str, str], dist: Path, name: str
) -> None:
    """A key in `web/dist/config.json` would be everybody's."""
    (dist / name).write_text('{"apiKey": "sk_mine"}')
    with pytest.raises(StageError, match=name):
        publication.publish(session, outputs, dist)
    assert keys(session, PAGE) == set()


def test_a_folder_without_the_page_is_no_build(session: Any, outputs: Mapping[str, str], dist: Path) -> None:
    (dist / "index.html").unlink()
    with pytest.raises(StageError, match="make web"):
        publication.publish(session, outputs, dist)
    assert keys(session, PAGE) == set()


def test_who_deploys_hears_where_the_page_is_and_if_its_origin_may_not_upload(
    session: Any, outputs: Mapping[str, str], dist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*origins: str) -> str:
        allow(session.client("s3"), *origins)
        publication.publish(session, outputs, dist)
        return capsys.readouterr().out

    url = outputs["PageUrl"]
    assert url in said("*")
    assert "AllowedOrigins" not in said("*")
    assert "AllowedOrigins" not in said("https://chat.example.com", url)
    assert f"Add {url}" in said("https://chat.example.com")


@pytest.mark.parametrize(
    ("overrides", "outputs", "expected"),
    [
        (("LogLevel=DEBUG Page=on",), None, True),
        (("LogLevel=DEBUG", "Page=on"), {}, True),
        (("Page=off",), {"PageUrl": "https://d.example"}, False),
        (("LogLevel=DEBUG",), {"PageUrl": "https://d.example"}, True),
        (("LogLevel=DEBUG",), {"ApiUrl": "https://api.example"}, False),
        ((), None, False),
    ],
)
def test_a_page_is_expected_where_the_stage_says_so_or_its_stack_has_one(
    overrides: tuple[str, ...], outputs: Mapping[str, str] | None, expected: bool
) -> None:
    assert publication.is_expected(Stage("here", "keeper", overrides=overrides), outputs) is expected


def test_a_stack_without_a_page_gets_none_and_builds_none(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "build", lambda: pytest.fail("there is nothing to build"))
    delivery.update_page(session, {}, {"BucketName": UPLOADS})
    assert keys(session, PAGE) == set()


def test_a_page_that_is_turned_off_leaves_no_bucket(
    session: Any, outputs: Mapping[str, str], dist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication.publish(session, outputs, dist)
    monkeypatch.setattr(publication, "build", lambda: pytest.fail("there is nothing to build"))
    delivery.update_page(session, outputs, {"BucketName": UPLOADS})
    assert buckets(session) == {UPLOADS}


def buckets(session: Any) -> set[str]:
    return {each["Name"] for each in session.client("s3").list_buckets()["Buckets"]}


@dataclass(frozen=True)
class Deployed(Stage):
    """A stage whose stack is in this account, and tells this."""

    account: Any = None
    told: Mapping[str, str] = field(default_factory=dict)

    def session(self) -> Any:
        return self.account

    def deployed(self) -> Mapping[str, str]:
        return self.told


@pytest.mark.parametrize("with_data", [True, False])
def test_destroying_the_stack_takes_its_page_away_whatever_becomes_of_the_data(
    session: Any, outputs: Mapping[str, str], dist: Path, monkeypatch: pytest.MonkeyPatch, with_data: bool
) -> None:
    table = session.client("dynamodb").create_table(
        TableName="keeper",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
    )["TableDescription"]["TableName"]
    publication.publish(session, outputs, dist)
    session.client("s3").put_object(Bucket=UPLOADS, Key="files/a.csv", Body=b"1")
    stage = Deployed("here", "keeper", account=session, told={**outputs, "TableName": table})
    done: list[str] = []
    monkeypatch.setattr(removal, "end_sessions", lambda *_: done.append("sessions"))

    def delete_stack(*_: object) -> None:
        assert PAGE in buckets(session), "CloudFront still hands it out"
        done.append("stack")

    monkeypatch.setattr(removal, "_delete_stack", delete_stack)
    removal.destroy(stage, with_data=with_data, unasked=True)
    assert done == ["sessions", "stack"]
    assert buckets(session) == (set() if with_data else {UPLOADS})


class NotBuilt(Exception):
    """The page has an error."""


def test_a_page_that_cannot_be_built_leaves_the_stack_as_it_was(
    session: Any, outputs: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build() -> None:
        raise NotBuilt

    monkeypatch.setattr(publication, "build", build)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was deployed"))
    monkeypatch.setattr(Deployed, "outputs", Deployed.deployed)
    with pytest.raises(NotBuilt):
        delivery.deploy(Deployed("here", "keeper", account=session, told=outputs), unasked=True)


def test_the_page_goes_up_once_the_stack_is_deployed(
    session: Any, outputs: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(publication, "build", lambda: done.append("make web"))
    monkeypatch.setattr(publication, "publish", lambda *_: done.append("publish"))
    monkeypatch.setattr(subprocess, "run", lambda command, **_: done.append(f"sam {command[1]}"))
    monkeypatch.setattr(Deployed, "outputs", Deployed.deployed)
    delivery.deploy(Deployed("here", "keeper", account=session, told=outputs), unasked=True)
    assert done == ["make web", "sam build", "sam deploy", "make web", "publish"]


def test_a_bucket_that_somebody_removed_by_hand_is_gone_as_well(session: Any) -> None:
    remove_bucket(session.client("s3"), "keeper-never-was")


def test_the_page_is_built_by_make_without_the_flags_of_the_make_that_deploys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAKEFLAGS", "n")
    ran: list[tuple[list[str], bool]] = []

    def run(command: list[str], *, env: Mapping[str, str], check: bool, **_: object) -> None:
        ran.append((command, "MAKEFLAGS" in env))
        assert check

    monkeypatch.setattr(subprocess, "run", run)
    publication.build()
    assert ran == [(["make", "web"], False)]
