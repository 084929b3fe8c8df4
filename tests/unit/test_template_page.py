"""The page's part of `template.yaml`: nothing of it without `Page=on`, and with it what the local stack serves."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from local.page import FIGURE_POLICY, FRAME_POLICY, policy
from local.project import ROOT
from local.template import load_template

TEMPLATE = load_template((ROOT / "template.yaml").read_text())
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
DISTRIBUTION: dict[str, Any] = RESOURCES["PageDistribution"]["Properties"]["DistributionConfig"]
OF_THE_PAGE = {name for name in RESOURCES if name.startswith("Page")}
TWO_YEARS_S = 63_072_000
CACHING_OPTIMIZED = "658327ea-f89d-4fab-a63d-7e88639e58f6"
CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
ALL_VIEWER_EXCEPT_HOST_HEADER = "b689b0a8-53d0-40ab-baf2-68738e2966ac"


def headers(logical_id: str) -> dict[str, Any]:
    found: dict[str, Any] = RESOURCES[logical_id]["Properties"]["ResponseHeadersPolicyConfig"]
    return found


def behaviour(path: str) -> dict[str, Any]:
    """Returns how CloudFront treats what has this path."""
    for each in DISTRIBUTION["CacheBehaviors"]:
        if re.fullmatch(each["PathPattern"].replace(".", r"\.").replace("*", ".*"), path):
            return dict(each)
    return dict(DISTRIBUTION["DefaultCacheBehavior"])


def headers_of(path: str) -> dict[str, Any]:
    """Returns the headers that CloudFront adds to what has this path."""
    return headers(behaviour(path)["ResponseHeadersPolicyId"]["Ref"])


def content_policy_of(path: str) -> str:
    said = headers_of(path)["SecurityHeadersConfig"]["ContentSecurityPolicy"]
    assert said["Override"] is True
    text = said["ContentSecurityPolicy"]
    return text["Fn::Sub"] if isinstance(text, dict) else text  # type: ignore[no-any-return]


def names(value: Any) -> Iterator[str]:
    """Yields whatever a value refers to."""
    match value:
        case {"Ref": name}:
            yield name
        case {"Fn::GetAtt": name}:
            yield name.split(".")[0]
        case {"Fn::Sub": str(text)}:
            yield from (name.split(".")[0] for name in re.findall(r"\$\{([^}]+)\}", text))
        case dict():
            for inner in value.values():
                yield from names(inner)
        case list():
            for inner in value:
                yield from names(inner)


def deployed(page: str) -> set[str]:
    """Returns the resources that CloudFormation makes with this setting of `Page`."""
    assert TEMPLATE["Conditions"]["HasPage"] == {"Fn::Equals": [{"Ref": "Page"}, "on"]}
    return {name for name, each in RESOURCES.items() if each.get("Condition") != "HasPage" or page == "on"}


def test_there_is_no_page_unless_somebody_says_so() -> None:
    assert TEMPLATE["Parameters"]["Page"]["Default"] == "off"
    assert TEMPLATE["Parameters"]["Page"]["AllowedValues"] == ["on", "off"]
    assert not deployed("off") & OF_THE_PAGE
    assert not [name for name in deployed("off") if RESOURCES[name]["Type"].startswith("AWS::CloudFront::")]
    assert deployed("on") >= OF_THE_PAGE


def test_what_is_there_without_the_page_refers_to_nothing_of_it() -> None:
    for name in deployed("off"):
        assert not {*names(RESOURCES[name])} & (OF_THE_PAGE | {"Page"}), name
    for name, output in TEMPLATE["Outputs"].items():
        has_condition = output.get("Condition") == "HasPage"
        assert has_condition is bool({*names(output["Value"])} & OF_THE_PAGE), name


def test_the_page_and_its_frames_have_the_policies_that_the_local_stack_serves() -> None:
    of_uploads = "https://${Bucket.DomainName} https://${Bucket.RegionalDomainName}"
    assert content_policy_of("/") == content_policy_of("/index.html") == policy(of_uploads)
    assert content_policy_of("/frame.html") == FRAME_POLICY
    assert content_policy_of("/figure.html") == FIGURE_POLICY


@pytest.mark.parametrize("path", ["/", "/icon.svg", "/frame.html", "/figure.html", "/assets/index-abc.js"])
def test_files_come_over_https_compressed_and_say_that_they_are_what_they_are(path: str) -> None:
    told = headers_of(path)["SecurityHeadersConfig"]
    assert told["StrictTransportSecurity"] == {"Override": True, "AccessControlMaxAgeSec": TWO_YEARS_S}
    assert told["ContentTypeOptions"] == {"Override": True}
    assert told["ReferrerPolicy"] == {"Override": True, "ReferrerPolicy": "no-referrer"}
    treated = behaviour(path)
    assert (treated["TargetOriginId"], treated["AllowedMethods"]) == ("files", ["GET", "HEAD"])
    assert treated["ViewerProtocolPolicy"] == "redirect-to-https"
    assert (treated["CachePolicyId"], treated["Compress"]) == (CACHING_OPTIMIZED, True)


def test_a_frame_without_an_origin_may_load_the_assets_and_nothing_else() -> None:
    assert headers_of("/assets/figure-abc.js")["CorsConfig"]["AccessControlAllowOrigins"] == {"Items": ["*"]}
    for path in ("/", "/frame.html", "/figure.html"):
        assert "CorsConfig" not in headers_of(path)


@pytest.mark.parametrize("path", ["/api/health", "/api/chats/demo/notebook", "/openapi.json", "/mcp"])
def test_the_api_is_at_the_pages_address_and_is_asked_each_time_with_all_that_the_caller_sent(path: str) -> None:
    treated = behaviour(path)
    assert treated["TargetOriginId"] == "api"
    assert treated["CachePolicyId"] == CACHING_DISABLED
    assert treated["OriginRequestPolicyId"] == ALL_VIEWER_EXCEPT_HOST_HEADER
    assert "ResponseHeadersPolicyId" not in treated, "the API's own headers are the stricter ones"


def test_every_method_of_the_api_gets_through() -> None:
    allowed = RESOURCES["HttpApi"]["Properties"]["CorsConfiguration"]["AllowMethods"]
    assert {*allowed} < {*behaviour("/api/health")["AllowedMethods"]}


def test_a_call_over_plain_http_is_refused_since_its_key_is_out_by_then() -> None:
    assert (
        behaviour("/api/health")["ViewerProtocolPolicy"]
        == behaviour("/mcp")["ViewerProtocolPolicy"]
        == "https-only"
    )
    [_, api] = DISTRIBUTION["Origins"]
    assert api["CustomOriginConfig"]["OriginProtocolPolicy"] == "https-only"
    assert api["CustomOriginConfig"]["OriginSSLProtocols"] == ["TLSv1.2"]


def test_the_gateway_gives_up_before_cloudfront_does() -> None:
    [_, api] = DISTRIBUTION["Origins"]
    [route] = RESOURCES["ApiFunction"]["Properties"]["Events"].values()
    gateway_s = route["Properties"]["TimeoutInMillis"] / 1000
    assert api["CustomOriginConfig"]["OriginReadTimeout"] > gateway_s


def test_the_pages_bucket_is_read_by_its_distribution_alone() -> None:
    bucket = RESOURCES["PageBucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]
    assert "BucketName" not in bucket, "one that is kept would be in the way of the next"
    [refuse_http, hand_out] = RESOURCES["PageBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (refuse_http["Effect"], refuse_http["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert (hand_out["Action"], hand_out["Principal"]) == ("s3:GetObject", {"Service": "cloudfront.amazonaws.com"})
    assert {*names(hand_out["Condition"])} >= {"PageDistribution", "AWS::AccountId"}
    [files, _] = DISTRIBUTION["Origins"]
    assert {*names(files["OriginAccessControlId"])} == {"PageAccess"}
    signed = RESOURCES["PageAccess"]["Properties"]["OriginAccessControlConfig"]
    assert (signed["SigningBehavior"], signed["OriginAccessControlOriginType"]) == ("always", "s3")


def test_no_function_may_touch_the_page() -> None:
    for name, each in RESOURCES.items():
        if each["Type"] == "AWS::Serverless::Function":
            assert not {*names(each)} & OF_THE_PAGE, name
