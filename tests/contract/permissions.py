"""What IAM would judge a function by: what it asks of AWS, and what its policies in `template.yaml` allow."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from local import aws
from local.project import ROOT
from local.template import load_template

ACCOUNT, REGION = "123456789012", aws.REGION
STACK_ID = "0a1b2c3d-0000-1111-2222-333344445555"

Grant = tuple[str, str]
"""An action and the resource, or its pattern, that it is for."""


# ── What is asked ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class Recorder:
    """Makes the clients of one function after another, and notes what they ask."""

    asked: dict[str, set[Grant]] = field(default_factory=dict)
    function: str = ""

    def begin(self, function: str) -> None:
        """Lets all clients that are made from now on be this function's."""
        self.function = function
        self.asked.setdefault(function, set())

    def watched(self, client: Any, function: str) -> Any:
        """Returns the client, of which every request and signature is noted."""

        def note(params: dict[str, Any], model: Any, **_: Any) -> None:
            self.asked[function].update(grants_of(model.service_model.service_name, model.name, params))

        def sign(bucket: str, key: str, **details: Any) -> Any:
            self.asked[function].add(("s3:PutObject", f"arn:aws:s3:::{bucket}/{key}"))
            return presign(bucket, key, **details)

        client.meta.events.register("provide-client-params.*.*", note)
        if client.meta.service_model.service_name == "s3":
            presign, client.generate_presigned_post = client.generate_presigned_post, sign
        return client


IN_PARTS = {"CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"}


def grants_of(service: str, operation: str, params: dict[str, Any]) -> Iterator[Grant]:
    """Yields what IAM asks for before AWS does the operation."""
    match service, operation:
        case "s3", "CreateBucket":
            return  # how the client works out an address when it signs an upload; nothing is sent
        case "s3", _:
            action = "PutObject" if operation in IN_PARTS else operation
            yield f"s3:{action}", f"arn:aws:s3:::{params['Bucket']}/{params['Key']}"
        case "secretsmanager", _:
            yield f"secretsmanager:{operation}", params["SecretId"]
        case "dynamodb", "TransactWriteItems":
            for write in params["TransactItems"]:
                for kind, request in write.items():
                    action = kind if kind == "ConditionCheck" else f"{kind}Item"
                    yield f"dynamodb:{action}", table_arn(request["TableName"])
        case "dynamodb", "BatchGetItem":
            for table in params["RequestItems"]:
                yield "dynamodb:BatchGetItem", table_arn(table)
        case "dynamodb", _:
            index = f"/index/{params['IndexName']}" if "IndexName" in params else ""
            yield f"dynamodb:{operation}", table_arn(params["TableName"]) + index
        case _:
            raise AssertionError(f"what does IAM ask for before {service} does {operation}? Say so here")


def table_arn(name: str) -> str:
    return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}"


# ── What is allowed ─────────────────────────────────────────────────────────────────────────────────


def policies(arns: dict[str, str]) -> dict[str, set[Grant]]:
    """Returns what the template allows each function: actions, and patterns of resources."""
    resources = load_template((ROOT / "template.yaml").read_text())["Resources"]
    return {
        name: {
            (action, pattern)
            for policy in each["Properties"]["Policies"]
            for statement in policy["Statement"]
            for action in listed(statement["Action"])
            for resource in listed(statement["Resource"])
            for pattern in resolved(resource, arns)
        }
        for name, each in resources.items()
        if each["Type"] == "AWS::Serverless::Function"
    }


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def resolved(resource: Any, arns: dict[str, str]) -> Iterator[str]:
    """Yields the resource as CloudFormation would write it into the policy."""
    match resource:
        case {"Ref": "AWS::NoValue"}:
            return
        case {"Ref": name}:
            yield arns[name]
        case {"Fn::GetAtt": attribute}:
            yield arns[attribute.removesuffix(".Arn")]
        case {"Fn::If": [_, one, other]}:
            yield from (*resolved(one, arns), *resolved(other, arns))
        case {"Fn::Sub": [text, {"Id": _}]}:
            yield text.replace("${Id}", STACK_ID).replace("${AWS::Partition}", "aws")
        case {"Fn::Sub": text}:
            yield re.sub(r"\$\{(\w+)\.Arn\}", lambda found: arns[found[1]], text)
        case _:
            raise AssertionError(f"cannot tell which resource {resource} is")


def covers(allowed: Grant, asked: Grant) -> bool:
    """Returns whether the policy's grant lets a request through."""
    pattern = ".*".join(map(re.escape, allowed[1].split("*")))
    return allowed[0] == asked[0] and re.fullmatch(pattern, asked[1]) is not None
