"""The page's part of `template.yaml`, deployed to the local AWS with each setting of `Page`."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from deploy import delivery, publication
from local.project import ROOT
from local.template import load_template

TEMPLATE = load_template((ROOT / "template.yaml").read_text())
OF_THE_PAGE = [name for name in TEMPLATE["Resources"] if name.startswith("Page")]
NEEDED = {name: TEMPLATE["Resources"][name] for name in ("Bucket", *OF_THE_PAGE)}
PART = {
    "Parameters": {name: TEMPLATE["Parameters"][name] for name in ("Page", "AllowedOrigins", "FileRetentionDays")},
    "Conditions": {"HasPage": TEMPLATE["Conditions"]["HasPage"]},
    "Resources": {
        **NEEDED,
        # What SAM makes of the gateway needs the functions.
        "HttpApi": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Name": "keeper", "ProtocolType": "HTTP"}},
    },
    "Outputs": {name: each for name, each in TEMPLATE["Outputs"].items() if name.startswith(("Page", "Bucket"))},
}
STACK = "keeper-with-page"
Deploy = Callable[[str], Mapping[str, str]]


@pytest.fixture
def session(ministack_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The account of whoever deploys."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack_url)
    return boto3.Session("local", "local", region_name="us-east-1")


@pytest.fixture
def deploy(session: Any) -> Iterator[Deploy]:
    """Has the stack this setting of `Page`, and returns its outputs."""
    cloudformation = session.client("cloudformation")

    def deploy(setting: str) -> Mapping[str, str]:
        is_new = STACK not in {each["StackName"] for each in cloudformation.describe_stacks()["Stacks"]}
        change = cloudformation.create_stack if is_new else cloudformation.update_stack
        change(
            StackName=STACK,
            TemplateBody=json.dumps(PART),
            Parameters=[{"ParameterKey": "Page", "ParameterValue": setting}],
        )
        waiter = cloudformation.get_waiter(f"stack_{'create' if is_new else 'update'}_complete")
        waiter.wait(StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        (stack,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    yield deploy
    cloudformation.delete_stack(StackName=STACK)


def made(session: Any) -> set[str]:
    """Returns the logical ids of what the stack is made of."""
    found = session.client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    return {each["LogicalResourceId"] for each in found if each["ResourceStatus"] != "DELETE_COMPLETE"}


def test_a_stack_has_the_page_from_its_turning_on_until_its_turning_off(
    deploy: Deploy, session: Any, tmp_path: Path
) -> None:
    without = deploy("off")
    assert not made(session) & {*OF_THE_PAGE}
    assert without.keys() == {"BucketName"}

    outputs = deploy("on")
    assert made(session) >= {*OF_THE_PAGE}
    (tmp_path / "index.html").write_text("<!doctype html>")
    publication.publish(session, outputs, tmp_path)
    s3 = session.client("s3")
    assert s3.get_object(Bucket=outputs["PageBucketName"], Key="index.html")["CacheControl"] == "no-cache"
    assert outputs["PageUrl"].startswith("https://")

    after = deploy("off")
    delivery.update_page(session, outputs, after)
    assert outputs["PageBucketName"] not in {each["Name"] for each in s3.list_buckets()["Buckets"]}
    assert after["BucketName"] in {each["Name"] for each in s3.list_buckets()["Buckets"]}
