"""How the routes that ministack leaves out are found in the deployed template."""

from typing import Any

import pytest

from local.deployed import connect, cors, routes

BODY: dict[str, Any] = {
    "paths": {
        "/{proxy+}": {
            "x-amazon-apigateway-any-method": {
                "x-amazon-apigateway-integration": {
                    "uri": {"Fn::Sub": "arn:${AWS::Partition}:apigateway:…/functions/${Alias}/invocations"},
                    "timeoutInMillis": 30000,
                }
            }
        },
        "/mcp": {
            "x-amazon-apigateway-any-method": {
                "x-amazon-apigateway-integration": {
                    "uri": {"Fn::Sub": "arn:${AWS::Partition}:apigateway:…/functions/${Function.Arn}/invocations"},
                    "timeoutInMillis": 30000,
                }
            }
        },
        "/api/health": {
            "get": {
                "x-amazon-apigateway-integration": {
                    "uri": {"Fn::Sub": "arn:${AWS::Partition}:apigateway:…/functions/${Other}/invocations"},
                    "timeoutInMillis": 5000,
                }
            }
        },
    },
    "x-amazon-apigateway-cors": {"allowOrigins": "*", "allowMethods": ["GET"], "maxAge": 3600},
}
TEMPLATE = {"Resources": {"HttpApi": {"Properties": {"Body": BODY}}}}
RESOURCES = {"HttpApi": "a1", "Alias": "arn:alias", "Other": "arn:other", "Function": "stack-function"}


class Gateway:
    """API Gateway with the routes of one API."""

    def __init__(self, *routes: str) -> None:
        self.routes = dict.fromkeys(routes, "")
        self.integrations: list[str] = []
        self.cors: dict[str, Any] = {}

    def get_routes(self, ApiId: str) -> dict[str, Any]:  # noqa: N803 - boto3's names, here and below
        return {"Items": [{"RouteKey": key} for key in self.routes]}

    def create_integration(self, IntegrationUri: str, **_: object) -> dict[str, str]:  # noqa: N803
        self.integrations.append(IntegrationUri)
        return {"IntegrationId": str(len(self.integrations) - 1)}

    def create_route(self, RouteKey: str, Target: str, **_: object) -> None:  # noqa: N803
        self.routes[RouteKey] = self.integrations[int(Target.removeprefix("integrations/"))]

    def update_api(self, CorsConfiguration: dict[str, Any], **_: object) -> None:  # noqa: N803
        self.cors = CorsConfiguration


def test_every_route_of_the_document_leads_to_its_alias_or_function() -> None:
    gateway = Gateway()
    connect(gateway, TEMPLATE, RESOURCES)
    assert gateway.routes == {
        "ANY /{proxy+}": "arn:alias",
        "ANY /mcp": "arn:aws:lambda:us-east-1:000000000000:function:stack-function",
        "GET /api/health": "arn:other",
    }
    assert gateway.cors == {"AllowOrigins": ["*"], "AllowMethods": ["GET"], "MaxAge": 3600}


def test_nothing_is_done_where_the_routes_are_there() -> None:
    gateway = Gateway("ANY /{proxy+}")
    connect(gateway, TEMPLATE, RESOURCES)
    assert (gateway.routes, gateway.integrations, gateway.cors) == ({"ANY /{proxy+}": ""}, [], {})


def test_a_route_to_something_else_is_named() -> None:
    elsewhere = {"uri": {"Fn::Sub": "https://example.com"}, "timeoutInMillis": 1}
    paths = {"/x": {"get": {"x-amazon-apigateway-integration": elsewhere}}}
    with pytest.raises(LookupError, match="/x"):
        list(routes({"paths": paths}))


def test_several_origins_stay_several() -> None:
    both = ["https://a.example", "https://b.example"]
    assert cors({"x-amazon-apigateway-cors": {"allowOrigins": both}}) == {"AllowOrigins": both}
    assert cors({"x-amazon-apigateway-cors": {"allowOrigins": ",".join(both)}}) == {"AllowOrigins": both}
