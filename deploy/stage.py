"""A stage: an environment of `samconfig.toml`, and the stack in the cloud that it stands for."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.exceptions import ClientError

from local.project import ROOT

LONGEST_STACK_NAME = 64
"""CloudFormation allows twice as much; the functions and E2B's metadata do not."""


class StageError(Exception):
    """What was asked cannot be done. The message names the reason and the fix; nothing was changed."""


@dataclass(frozen=True)
class Stage:
    name: str
    stack_name: str
    region: str | None = None
    profile: str | None = None
    overrides: tuple[str, ...] = ()
    """The parameters that the stage sets, as the SAM CLI takes them."""

    @classmethod
    def named(cls, name: str, config: Path = ROOT / "samconfig.toml") -> Self:
        """The stage of this name. Raises StageError, which names those that there are."""
        stages = {key: value for key, value in tomllib.loads(config.read_text()).items() if key != "version"}
        if name not in stages:
            raise StageError(f"STAGE={name!r} is not in {config.name}, which has {', '.join(stages)}")
        shared = _parameters(stages[name], "global")
        said = {**shared, **_parameters(stages[name], "deploy")}
        stack_name = said["stack_name"]
        if len(stack_name) > LONGEST_STACK_NAME:
            raise StageError(f"the stack name {stack_name!r} is longer than {LONGEST_STACK_NAME} characters")
        overrides = said.get("parameter_overrides") or ()
        listed = (overrides,) if isinstance(overrides, str) else tuple(overrides)
        return cls(name, stack_name, said.get("region"), said.get("profile"), listed)

    def session(self) -> Any:
        """The account and region that the stage is in: its own, or those of the environment."""
        return boto3.Session(region_name=self.region, profile_name=self.profile)

    def outputs(self) -> Mapping[str, str] | None:
        """The stack's outputs, None where it is not deployed."""
        try:
            (stack,) = self.session().client("cloudformation").describe_stacks(StackName=self.stack_name)["Stacks"]
        except ClientError as error:
            # The one error that CloudFormation has no code for.
            if "does not exist" in error.response["Error"]["Message"]:
                return None
            raise
        return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}

    def deployed(self) -> Mapping[str, str]:
        """The stack's outputs. Raises StageError where it is not deployed, or not to its end."""
        outputs = self.outputs()
        if not outputs:
            raise StageError(
                f"there is no stack {self.stack_name!r} here; deploy it by make deploy STAGE={self.name}"
            )
        return outputs


def _parameters(environment: Mapping[str, Any], command: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = environment.get(command, {}).get("parameters", {})
    return found
