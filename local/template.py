"""`template.yaml`, read for what the local AWS has to offer: the same table and bucket as in the cloud."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Self, cast

import yaml

from local.project import ROOT

TABLE_PROPERTIES = ("KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "BillingMode")


class _CloudFormationLoader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Ref X` reads as `{"Ref": "X"}`, `!GetAtt` as `Fn::GetAtt`."""

    def intrinsic(self, suffix: str, node: yaml.Node) -> dict[str, Any]:
        match node:
            case yaml.MappingNode():
                value: Any = self.construct_mapping(node, deep=True)
            case yaml.SequenceNode():
                value = self.construct_sequence(node, deep=True)
            case _:
                value = self.construct_scalar(cast("yaml.ScalarNode", node))
        return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_CloudFormationLoader.add_multi_constructor("!", _CloudFormationLoader.intrinsic)


def load_template(text: str) -> dict[str, Any]:
    """Returns a CloudFormation template, its intrinsic functions in their long form."""
    document: dict[str, Any] = yaml.load(text, _CloudFormationLoader)  # noqa: S506 - a SafeLoader
    return document


class Template:
    """A template's resources, with references to parameters replaced by the parameters' defaults."""

    def __init__(self, text: str) -> None:
        self._document = load_template(text)

    @classmethod
    def of_this_project(cls) -> Self:
        return cls((ROOT / "template.yaml").read_text())

    def table(self) -> dict[str, Any]:
        """The arguments of DynamoDB's `create_table`, less the name."""
        properties = self._properties("Table")
        return {name: properties[name] for name in TABLE_PROPERTIES if name in properties}

    def time_to_live(self) -> dict[str, Any]:
        """The `TimeToLiveSpecification` of DynamoDB's `update_time_to_live`."""
        return cast("dict[str, Any]", self._properties("Table")["TimeToLiveSpecification"])

    def cors(self) -> dict[str, Any]:
        """The `CORSConfiguration` of S3's `put_bucket_cors`."""
        renamed = {"ExposedHeaders": "ExposeHeaders", "MaxAge": "MaxAgeSeconds"}
        rules = self._properties("Bucket")["CorsConfiguration"]["CorsRules"]
        return {"CORSRules": [{renamed.get(name, name): rule[name] for name in rule} for rule in rules]}

    def notifications(self, queue_arn: str) -> dict[str, Any]:
        """The `NotificationConfiguration` of S3's `put_bucket_notification_configuration`.

        What the template sends to a function goes to this queue, for `local.events` to take it on.
        """
        uploads = [event for event in self._events("S3") if event["Bucket"] == {"Ref": "Bucket"}]
        return {"QueueConfigurations": [_to_queue(queue_arn, event) for event in uploads]}

    def tick(self) -> dict[str, Any]:
        """The event with which the one schedule calls its function."""
        (schedule,) = self._events("ScheduleV2")
        return cast("dict[str, Any]", json.loads(schedule["Input"]))

    def _events(self, kind: str) -> Iterator[dict[str, Any]]:
        """The properties of each function's events of this kind."""
        for resource in self._document["Resources"].values():
            for event in resource.get("Properties", {}).get("Events", {}).values():
                if event["Type"] == kind:
                    yield self._resolve(event["Properties"])

    def _properties(self, logical_id: str) -> dict[str, Any]:
        resource = self._document["Resources"].get(logical_id)
        if resource is None:
            raise LookupError(f"template.yaml has no resource {logical_id!r}, which the local stack is made from")
        return cast("dict[str, Any]", self._resolve(resource["Properties"]))

    def _resolve(self, value: Any) -> Any:
        match value:
            case {"Ref": name} if name in self._document.get("Parameters", {}):
                return _default(self._document["Parameters"][name])
            case Mapping():
                return {key: self._resolve(inner) for key, inner in value.items()}
            case list():
                return [self._resolve(inner) for inner in value]
            case _:
                return value


def _default(parameter: Mapping[str, Any]) -> Any:
    default = parameter.get("Default")
    return default.split(",") if default and parameter["Type"] == "CommaDelimitedList" else default


def _to_queue(queue_arn: str, event: Mapping[str, Any]) -> dict[str, Any]:
    names = event["Events"]
    return {
        "QueueArn": queue_arn,
        "Events": names if isinstance(names, list) else [names],
        "Filter": {"Key": {"FilterRules": event["Filter"]["S3Key"]["Rules"]}},
    }
