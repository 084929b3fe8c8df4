"""The page's own stack, deployed to the local AWS: files behind CloudFront, the API at the same address."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy import page
from deploy.stage import Stage
from local import aws
from local.page import FIGURE_POLICY, FRAME_POLICY
from local.template import load_template

SERVICE = {"BucketName": "keeper-files", "ApiUrl": "https://abc123.execute-api.eu-west-1.amazonaws.com"}
TEMPLATE = load_template(page.TEMPLATE.read_text())
DISTRIBUTION: Mapping[str, Any] = TEMPLATE["Resources"]["Distribution"]["Properties"]["DistributionConfig"]


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """What a build leaves."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "index-abc.js").write_text("run()")
    (tmp_path / "index.html").write_text("<!doctype html>")
    return tmp_path


@pytest.fixture
def deployed(ministack_url: str) -> Iterator[Mapping[str, str]]:
    """The outputs of the page's stack, in the local AWS."""
    cloudformation = aws.client("cloudformation", ministack_url)
    given = page.page_parameters(SERVICE, "eu-west-1")
    cloudformation.create_stack(
        StackName="keeper-page",
        TemplateBody=page.TEMPLATE.read_text(),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName="keeper-page", WaiterConfig={"Delay": 1})
    (stack,) = cloudformation.describe_stacks(StackName="keeper-page")["Stacks"]
    yield {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    cloudformation.delete_stack(StackName="keeper-page")


def test_the_stack_tells_where_the_page_is_and_takes_its_files(
    deployed: Mapping[str, str], ministack_url: str, dist: Path
) -> None:
    s3, bucket = aws.client("s3", ministack_url), deployed["FilesBucketName"]
    page.upload(s3, bucket, dist)

    index, script = (s3.get_object(Bucket=bucket, Key=key) for key in ("index.html", "assets/index-abc.js"))
    assert deployed["PageUrl"].startswith("https://")
    assert (index["ContentType"], index["CacheControl"]) == ("text/html", "no-cache")
    assert (script["ContentType"], "immutable" in script["CacheControl"]) == ("text/javascript", True)
    page.empty(s3, bucket)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_page_comes_after_all_that_it_names(dist: Path) -> None:
    assert [path.name for path in page.in_order(dist)] == ["index-abc.js", "index.html"]


def test_the_page_reaches_the_api_under_its_own_address_and_the_files_in_their_bucket() -> None:
    given = page.page_parameters(SERVICE, "eu-west-1")

    assert given["ApiDomain"] == "abc123.execute-api.eu-west-1.amazonaws.com"
    assert "https://keeper-files.s3.eu-west-1.amazonaws.com" in given["PagePolicy"]
    assert (given["FramePolicy"], given["FigurePolicy"]) == (FRAME_POLICY, FIGURE_POLICY)
    assert set(given) == set(TEMPLATE["Parameters"])


def test_what_callers_send_to_the_api_is_handed_on_and_nothing_of_it_is_kept() -> None:
    (api,) = (each for each in DISTRIBUTION["CacheBehaviors"] if each["PathPattern"] == "/api/*")

    assert api["TargetOriginId"] == "api"
    assert {"GET", "PUT", "POST", "DELETE"} <= set(api["AllowedMethods"])
    assert api["CachePolicyId"] == "4135ea2d-6df8-44a3-9df3-4b5a84be39ad", "AWS's CachingDisabled"
    assert api["OriginRequestPolicyId"] == "b689b0a8-53d0-40ab-baf2-68738e2966ac", "AWS's AllViewerExceptHostHeader"


def test_nothing_is_told_over_plain_http() -> None:
    behaviours = [DISTRIBUTION["DefaultCacheBehavior"], *DISTRIBUTION["CacheBehaviors"]]

    assert {each["ViewerProtocolPolicy"] for each in behaviours} <= {"https-only", "redirect-to-https"}


def test_the_command_deploys_a_stack_beside_the_services(tmp_path: Path) -> None:
    own = page.of_page(Stage("prod", "keeper-prod"))
    command = page.deploy_command(own, tmp_path / "parameters.yaml", unasked=True)

    assert command[command.index("--stack-name") + 1] == "keeper-prod-page"
    assert command[command.index("--config-env") + 1] == "prod"
    assert "--no-confirm-changeset" in command
