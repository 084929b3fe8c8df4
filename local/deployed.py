"""The stack as it is deployed: `template.yaml`, by `sam build` and `sam deploy`, in the local AWS.

Calls go through its API Gateway, uploads through its S3 and ticks through its scheduler; the functions run with
their layers in its worker processes, on the sandbox server of the local stack.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from local import aws, sam
from local.processes import StackError
from local.settings import Settings
from local.stack import E2B_API_KEY, Port, Stack
from sandkeeper.adapters.dynamodb import DynamoApiKeyStore, Table
from sandkeeper.model import utc_now
from sandkeeper.services.api_keys import ApiKeys

STACK_NAME = "sandkeeper-local"
CALLED = re.compile(r"functions/\$\{(\w+)(?:\.Arn)?\}/invocations")
"""By its alias, or a function that has none by its ARN."""
ANY_METHOD = "x-amazon-apigateway-any-method"

Resources = Mapping[str, str]
"""Physical ids, by the template's names."""


class DeployedStack(Stack):
    """`with DeployedStack(settings, logs) as stack:` has the template deployed in the block, and nothing after.

    `on_ready` also hears when it is built and when it is deployed. The API has no port of its own: it answers on
    that of the local AWS.
    """

    def __init__(
        self,
        settings: Settings,
        logs: Path,
        on_ready: Callable[[str, float], None] = lambda _name, _seconds: None,
    ) -> None:
        super().__init__(replace(settings, api_port=0), logs, on_ready)
        self.outputs: Mapping[str, str] = {}

    @property
    def api_url(self) -> str:
        return self.outputs["ApiUrl"]

    @property
    def table(self) -> str:
        return self.outputs["TableName"]

    @property
    def bucket(self) -> str:
        return self.outputs["BucketName"]

    def _start(self) -> None:
        sandboxes_at = self.settings.sandbox_url
        # In the cloud these variables do not exist; here the functions inherit them from the local AWS.
        local_aws = self._start_aws({"E2B_API_URL": sandboxes_at, "E2B_SANDBOX_URL": sandboxes_at})
        self._await([local_aws, self._start_sandboxes()])
        self._deploy()
        self._describe()
        keys = DynamoApiKeyStore(Table(aws.client("dynamodb", self.settings.aws_url), self.table))
        ApiKeys(keys, utc_now).register(self.settings.api_key, owner="local", name="local stack")
        api = replace(local_aws.server, name="api")
        self._await([Port(api, f"{self.api_url}/api/health")])

    def _deploy(self) -> None:
        folder = self._processes.folder
        config, built = sam.no_config(folder), folder / "build"
        # PYTHONPATH would show the SAM CLI our packages beside its own.
        users = {name: value for name, value in self.environment.items() if name != "PYTHONPATH"}
        building = {**users, **sam.build_environment(_python_of_workers(), Path(sys.executable))}
        self._finish("build", sam.build_command(built, config), building)
        deploying = {**users, "SAM_CLI_TELEMETRY": "0"}
        self._finish("deploy", sam.deploy_command(built, config, STACK_NAME, {"E2bApiKey": E2B_API_KEY}), deploying)

    def _finish(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._processes.finish(name, command, environment)
        self._on_ready(name, time.monotonic() - self._started)

    def _describe(self) -> None:
        """The stack's outputs are known, and the API's address is the one that it has here."""
        url = self.settings.aws_url
        formation = aws.client("cloudformation", url)
        (stack,) = formation.describe_stacks(StackName=STACK_NAME)["Stacks"]
        described = formation.describe_stack_resources(StackName=STACK_NAME)["StackResources"]
        resources = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in described}
        body = formation.get_template(StackName=STACK_NAME, TemplateStage="Processed")["TemplateBody"]
        template = json.loads(body) if isinstance(body, str) else body
        connect(aws.client("apigatewayv2", url), template, resources)
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        # By path, as few machines resolve names that end in .localhost.
        self.outputs = {**outputs, "ApiUrl": f"{url}/_aws/execute-api/{resources['HttpApi']}"}


def connect(gateway: Any, template: Mapping[str, Any], resources: Resources) -> None:
    """The deployed API has the routes and the CORS settings of its `Body`.

    Ministack (1.5.33) does not read the OpenAPI document as which SAM hands an HTTP API to CloudFormation, and
    answers every call with 404. This can go once it does; where routes are there, nothing is done.
    """
    api = resources["HttpApi"]
    if gateway.get_routes(ApiId=api)["Items"]:
        return
    body = template["Resources"]["HttpApi"]["Properties"]["Body"]
    for route, called, timeout_ms in routes(body):
        integration = gateway.create_integration(
            ApiId=api,
            IntegrationType="AWS_PROXY",
            IntegrationUri=arn_of(resources[called]),
            PayloadFormatVersion="2.0",
            TimeoutInMillis=timeout_ms,
        )
        gateway.create_route(ApiId=api, RouteKey=route, Target=f"integrations/{integration['IntegrationId']}")
    gateway.update_api(ApiId=api, CorsConfiguration=cors(body))


def arn_of(physical_id: str) -> str:
    """Returns the ARN of a function, which CloudFormation knows by its name, or of an alias, by its ARN."""
    is_arn = physical_id.startswith("arn:")
    return physical_id if is_arn else f"arn:aws:lambda:{aws.REGION}:{aws.ACCOUNT}:function:{physical_id}"


def routes(body: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yields each route of the document: its key, what it calls by logical id, and its time limit."""
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            integration = operation["x-amazon-apigateway-integration"]
            called = CALLED.search(integration["uri"]["Fn::Sub"])
            if called is None:
                raise LookupError(f"the route {path!r} calls {integration['uri']!r}, which is no function of ours")
            verb = "ANY" if method == ANY_METHOD else method.upper()
            yield f"{verb} {path}", called[1], integration["timeoutInMillis"]


def cors(body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `CorsConfiguration` of API Gateway's `update_api`."""
    given = body["x-amazon-apigateway-cors"]
    origins = given["allowOrigins"]
    listed = {**given, "allowOrigins": origins.split(",") if isinstance(origins, str) else origins}
    return {name[0].upper() + name[1:]: value for name, value in listed.items()}


def _python_of_workers() -> str:
    """Ministack runs functions with its own Python, whatever their `Runtime`: for that one the layers are built."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([aws.PYTHON, "-c", ask], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"{aws.PYTHON} does not run, run make to set it up: {done.stderr}", Path(os.devnull))
    return done.stdout.strip()
