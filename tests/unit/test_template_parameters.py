"""What the template's parameters and `Rules` refuse, before anything is deployed, and what they let through.

Judged as CloudFormation does: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html
"""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from local.project import ROOT
from local.template import load_template
from sandkeeper.errors import NotConfigured
from sandkeeper.settings import ApiSettings

TEMPLATE = load_template((ROOT / "template.yaml").read_text())
PARAMETERS: dict[str, Any] = TEMPLATE["Parameters"]
ENVIRONMENT: dict[str, Any] = TEMPLATE["Resources"]["ApiFunction"]["Properties"]["Environment"]["Variables"]
LEAST = {"E2bApiKey": "e2b_0123456789"}
ISSUER = {"JwtIssuer": "https://id.example.com", "JwtAudience": "chat"}
KEYS = {"JwtJwksUrl": "https://id.example.com/keys"}
SECRET = {"JwtSecret": "s" * 32}


def refusals(**given: str) -> list[str]:
    """Returns what CloudFormation says of a deployment with these parameters; nothing, if it goes on."""
    values = {name: given.get(name, each.get("Default")) for name, each in PARAMETERS.items()}
    missing = [f"{name} must have a value" for name, value in values.items() if value is None]
    if missing:
        return missing
    texts = {name: str(value) for name, value in values.items()}
    bad = [f"{name} {why}" for name, text in texts.items() for why in _constraints(PARAMETERS[name], text)]
    return bad or [why for rule in TEMPLATE["Rules"].values() for why in _broken(rule, texts)]


def _constraints(parameter: Mapping[str, Any], text: str) -> list[str]:
    members = text.split(",") if parameter["Type"] == "CommaDelimitedList" else [text]
    if parameter["Type"] == "Number":
        number = float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else None
        holds = number is not None and (
            parameter.get("MinValue", number) <= number <= parameter.get("MaxValue", number)
        )
    else:
        pattern = re.compile(parameter.get("AllowedPattern", ".*"))
        holds = all(pattern.fullmatch(member.strip()) for member in members)
        holds &= parameter.get("MinLength", 0) <= len(text) <= parameter.get("MaxLength", len(text))
    allowed = [str(each) for each in parameter.get("AllowedValues", [text])]
    return [] if holds and text in allowed else [parameter.get("ConstraintDescription", "is not allowed")]


def _broken(rule: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
    if not _value(rule.get("RuleCondition", {"Fn::Equals": ["", ""]}), values):
        return []
    return [each["AssertDescription"] for each in rule["Assertions"] if not _value(each["Assert"], values)]


def _value(expression: Any, values: Mapping[str, str]) -> Any:
    """The value of a rule's expression. Functions that `Rules` may use and ours do not are unknown."""
    match expression:
        case {"Ref": name}:
            return values[name]
        case {"Fn::Equals": [left, right]}:
            return _value(left, values) == _value(right, values)
        case {"Fn::Not": [inner]}:
            return not _value(inner, values)
        case {"Fn::Or": inner}:
            return any(_value(each, values) for each in inner)
        case str():
            return expression
    raise LookupError(f"no rule of ours has used this so far: {expression!r}")


def test_a_key_to_e2b_is_all_that_has_to_be_given() -> None:
    assert refusals(**LEAST) == []
    assert refusals() == ["E2bApiKey must have a value"]


@pytest.mark.parametrize("tokens", [{**ISSUER, **KEYS}, {**ISSUER, **SECRET}, SECRET])
def test_tokens_are_checked_by_an_issuers_keys_or_by_a_secret(tokens: dict[str, str]) -> None:
    assert refusals(**LEAST, **tokens) == []


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        ({"JwtIssuer": "https://id.example.com"}, "nothing to check its signatures with"),
        ({"JwtAudience": "chat"}, "nothing to check signatures with"),
        ({**KEYS, "JwtAudience": "chat"}, "without JwtIssuer"),
        ({**KEYS, "JwtIssuer": "https://id.example.com"}, "without JwtAudience"),
        ({**ISSUER, **KEYS, **SECRET}, "only one of them would be used"),
    ],
)
def test_tokens_that_could_not_be_checked_as_meant_are_refused(tokens: dict[str, str], why: str) -> None:
    assert any(why in refusal for refusal in refusals(**LEAST, **tokens))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("E2bApiKey", "short"),
        ("E2bSandboxTimeout", "999"),
        ("E2bSandboxTimeout", "3600001"),
        ("E2bSandboxTimeout", "a minute"),
        ("E2bSessionTimeout", "299999"),
        ("E2bSessionTimeout", "82800001"),
        ("MaxSessionsPerOwner", "0"),
        ("MaxFilesPerChat", "101"),
        ("MaxFileBytes", "1073741825"),
        ("JwtJwksUrl", "http://id.example.com/keys"),
        ("JwtSecret", "s" * 31),
        ("LogLevel", "TRACE"),
        ("LogRetentionDays", "31"),
        ("AlarmEmail", "nobody"),
        ("AllowedOrigins", "chat.example.com"),
        ("AllowedOrigins", "https://chat.example.com/"),
        ("AllowedOrigins", "https://chat.example.com,https://*.example.com"),
    ],
)
def test_a_value_that_could_not_work_is_refused(name: str, value: str) -> None:
    assert len(refusals(**{**LEAST, name: value})) == 1


@pytest.mark.parametrize("origins", ["*", "https://chat.example.com", "http://localhost:3000, https://a.example"])
def test_origins_are_as_browsers_send_them(origins: str) -> None:
    assert refusals(**LEAST, AllowedOrigins=origins) == []


@pytest.mark.parametrize(
    "milliseconds",
    [
        *(-1, 0, 1, 9_999, 14_999, 15_000, 19_999, 20_000, 99_999, 100_000, 999_999, 1_000_000, 9_999_999),
        *(10_000_000, 79_999_999, 80_000_000, 81_999_999, 82_000_000, 82_799_999, 82_800_000),
        *(82_800_001, 83_000_000, 90_000_000),
    ],
)
def test_a_pause_is_refused_where_the_functions_would_not_start_with_it(milliseconds: int) -> None:
    """It once was a number with bounds: a stack with 5000 was deployed, and answered every call with an error."""
    assert (refusals(**LEAST, E2bIdlePause=str(milliseconds)) == []) is starts_with(E2B_IDLE_PAUSE=milliseconds)


def starts_with(**variables: int) -> bool:
    given = {name: str(value) for name, value in variables.items()}
    try:
        ApiSettings.read({"TABLE_NAME": "t", "BUCKET_NAME": "b", "STACK_NAME": "s", **given})
    except NotConfigured:
        return False
    return True


def test_the_functions_start_at_both_ends_of_every_numbers_range() -> None:
    for variable, given in ENVIRONMENT.items():
        parameter = PARAMETERS.get(str(given.get("Ref")), {}) if isinstance(given, dict) else {}
        if parameter.get("Type") == "Number":
            assert starts_with(**{variable: parameter["MinValue"]}), variable
            assert starts_with(**{variable: parameter["MaxValue"]}), variable
