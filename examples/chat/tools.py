"""The tool that the API serves, as each maker has it, and what of a model's call is usable."""

from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator

from examples.chat.models import BadCall, Call, Dialect, Tool

RUN = "run_python"
"""The only tool that this chat knows how to use."""


def schemas(tools: Sequence[Tool], dialect: Dialect) -> Mapping[str, Mapping[str, Any]]:
    """Returns the JSON Schema of each tool's arguments, by its name."""
    match dialect:
        case "anthropic":
            return {tool["name"]: tool["input_schema"] for tool in tools}
        case "openai":
            return {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
        case "bedrock":
            specs = [tool["toolSpec"] for tool in tools]
            return {spec["name"]: spec["inputSchema"]["json"] for spec in specs}


def inputs(call: Call, known: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns the arguments of a call of `RUN`, which are as its schema says. Raises `BadCall`."""
    if call.name != RUN or call.name not in known:
        raise BadCall(f"there is no tool {call.name[:60]!r}; call {RUN!r}")
    told = call.inputs()
    problems = [
        f"{error.json_path}: {error.validator} {error.validator_value!r} is not kept"
        for error in Draft202012Validator(known[call.name]).iter_errors(told)
    ]
    if problems:
        raise BadCall("the arguments are not as the tool wants them: " + "; ".join(problems[:3]))
    return told
