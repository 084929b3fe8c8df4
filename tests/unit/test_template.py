"""`template.yaml` and what goes with it, held to our conventions."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from local.project import ROOT
from local.template import load_template
from sandkeeper.adapters.reading.process import MEMORY_BYTES, TIME_LIMIT
from sandkeeper.settings import ApiSettings, CleanupSettings, IngestSettings, McpSettings, Settings

TEXT = (ROOT / "template.yaml").read_text()
TEMPLATE = load_template(TEXT)
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTIONS: dict[str, tuple[str, type[Settings]]] = {
    "ApiFunction": ("api", ApiSettings),
    "CleanupFunction": ("cleanup", CleanupSettings),
    "FileIngestFunction": ("file_ingest", IngestSettings),
    "McpFunction": ("mcp", McpSettings),
}
GATEWAY_LIMIT_S = 30
NO_VALUE = {"Ref": "AWS::NoValue"}


def properties(logical_id: str) -> dict[str, Any]:
    found: dict[str, Any] = RESOURCES[logical_id]["Properties"]
    return found


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    """Returns the properties of all resources of this type, by logical id."""
    return {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == kind}


def variables(logical_id: str) -> dict[str, Any]:
    found: dict[str, Any] = properties(logical_id)["Environment"]["Variables"]
    return found


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in FUNCTIONS:
        for policy in properties(name)["Policies"]:
            yield from ((name, statement) for statement in policy["Statement"])


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def references(value: Any) -> set[str]:
    """Returns all logical ids and parameters that a value names, by `!Ref`, `!GetAtt`, `!Sub` or `!If`."""
    return set(_references(value))


def _references(value: Any) -> Iterator[str]:
    match value:
        case {"Ref": name}:
            yield name
        case {"Fn::GetAtt": name}:
            yield name.split(".")[0]
        case {"Fn::If": [condition, *values]}:
            yield from _references([TEMPLATE["Conditions"][condition], *values])
        case {"Fn::Sub": [text, names]}:
            yield from references({"Fn::Sub": text}) - set(names)
            yield from _references(names)
        case {"Fn::Sub": text}:
            yield from (name.split(".")[0] for name in re.findall(r"\$\{([^}]+)\}", text))
        case dict() | list():
            for inner in value.values() if isinstance(value, dict) else value:
                yield from _references(inner)


def test_every_function_is_named_here_and_is_one_file() -> None:
    assert set(of_type("AWS::Serverless::Function")) == set(FUNCTIONS)
    for name, (folder, _) in FUNCTIONS.items():
        assert properties(name)["CodeUri"] == f"functions/{folder}"
        assert [file.name for file in (ROOT / "functions" / folder).glob("*.*")] == ["app.py"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_variables_are_the_fields_of_the_functions_settings(function: str) -> None:
    _, settings = FUNCTIONS[function]
    named = {name for name in variables(function) if not name.startswith("POWERTOOLS_")}
    assert named == {field.upper() for field in settings.model_fields}


def test_defaults_and_bounds_are_those_of_the_settings() -> None:
    for name, given in variables("ApiFunction").items():
        parameter = TEMPLATE["Parameters"].get(given.get("Ref")) if isinstance(given, dict) else None
        field = ApiSettings.model_fields.get(name.lower())
        if field is None or parameter is None or field.default is None:
            continue
        assert str(parameter["Default"]) == str(field.default), name
        for bound in field.metadata if parameter["Type"] == "Number" else ():
            assert parameter["MinValue"] >= getattr(bound, "ge", parameter["MinValue"]), name
            assert parameter["MaxValue"] <= getattr(bound, "le", parameter["MaxValue"]), name


def test_parameters_have_a_description_and_numbers_have_bounds_and_a_unit() -> None:
    for name, parameter in TEMPLATE["Parameters"].items():
        assert parameter["Description"].endswith(".") or parameter["Description"].endswith("com"), name
        if parameter["Type"] == "Number" and "AllowedValues" not in parameter:
            assert parameter["MinValue"] < parameter["MaxValue"], name
        if re.search(r"Timeout|Bytes|Days|PerSecond", name):
            unit = r"in (milliseconds|bytes|days|requests per second)"
            assert re.search(unit, parameter["Description"]), name


def test_secrets_are_hidden_and_never_have_a_value_in_this_repository() -> None:
    for name in ("E2bApiKey", "JwtSecret"):
        parameter = TEMPLATE["Parameters"][name]
        assert parameter["NoEcho"] is True
        assert not parameter.get("Default")
        value = {"Ref": name}
        users = [each["Type"] for each in RESOURCES.values() if value in each["Properties"].values()]
        assert users == ["AWS::SecretsManager::Secret"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_logs_for_a_limited_time(function: str) -> None:
    group = properties(function)["LoggingConfig"]["LogGroup"]["Ref"]
    assert properties(group)["RetentionInDays"] == {"Ref": "LogRetentionDays"}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("metric", ["Errors", "Throttles"])
def test_every_function_has_alarms_for_errors_and_throttles(function: str, metric: str) -> None:
    dimension = [{"Name": "FunctionName", "Value": {"Ref": function}}]
    alarms = of_type("AWS::CloudWatch::Alarm").values()
    assert any(alarm["MetricName"] == metric and alarm["Dimensions"] == dimension for alarm in alarms)


def test_alarms_tell_of_5xx_of_a_silent_cleanup_and_of_dead_letters_and_all_can_be_sent() -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    assert alarms["ApiAnswers5xx"]["MetricName"] == "5xx"
    assert alarms["CleanupNotRunning"]["TreatMissingData"] == "breaching"
    assert references(alarms["DeadLettersWaiting"]["Dimensions"]) == {"DeadLetters"}
    for name, alarm in alarms.items():
        assert "AlarmTopic" in references(alarm["AlarmActions"]), name


def test_every_statement_says_why() -> None:
    lines = [line for line in TEXT.splitlines() if "- Sid:" in line]
    of_buckets = [each["PolicyDocument"]["Statement"] for each in of_type("AWS::S3::BucketPolicy").values()]
    assert len(lines) == len(list(statements())) + sum(map(len, of_buckets))
    for line in lines:
        assert re.search(r"- Sid: \w+ # why: .{20,}", line), line


def test_no_permission_is_for_everything() -> None:
    for function, statement in statements():
        assert statement["Effect"] == "Allow"
        for action in listed(statement["Action"]):
            assert re.fullmatch(r"(dynamodb|s3|secretsmanager):[A-Z][A-Za-z]+", action), (function, action)
        for resource in listed(statement["Resource"]):
            assert resource != "*", (function, statement["Sid"])
            assert references(resource) - {"AWS::Partition", "AWS::Region"}, (function, statement["Sid"])


def test_every_wildcard_has_its_reason_beside_it() -> None:
    for number, line in enumerate(TEXT.splitlines(), 1):
        code = line.split(" #")[0]
        in_policy = re.search(r"(Resource|Action|Principal): .*\*|^\s+- arn:.*\*", code)
        if in_policy:
            nearby = "\n".join(TEXT.splitlines()[max(0, number - 3) : number])
            assert "# wildcard: " in nearby, f"line {number}: {line.strip()}"


@pytest.mark.parametrize(("function", "path"), [("ApiFunction", "/{proxy+}"), ("McpFunction", "/mcp")])
def test_what_the_gateway_calls_answers_before_it_gives_up(function: str, path: str) -> None:
    [route] = properties(function)["Events"].values()
    assert (route["Properties"]["Method"], route["Properties"]["Path"]) == ("ANY", path)
    assert route["Properties"]["TimeoutInMillis"] == GATEWAY_LIMIT_S * 1000
    assert 28 < properties(function)["Timeout"] < GATEWAY_LIMIT_S


def test_the_mcp_function_has_the_apis_settings() -> None:
    """Both serve the same chats."""
    shared = {name: value for name, value in variables("ApiFunction").items() if name != "POWERTOOLS_SERVICE_NAME"}
    assert variables("McpFunction").items() >= shared.items()


def test_cleanup_ticks_every_five_minutes_and_never_overlaps() -> None:
    [tick] = properties("CleanupFunction")["Events"].values()
    schedule = tick["Properties"]
    minutes = int(re.fullmatch(r"rate\((\d+) minutes\)", schedule["ScheduleExpression"])[1])  # type: ignore[index]
    assert minutes <= 5
    assert properties("CleanupFunction")["Timeout"] < minutes * 60
    assert schedule["RetryPolicy"]["MaximumEventAgeInSeconds"] <= minutes * 60
    assert references(schedule["DeadLetterConfig"]) == {"DeadLetters"}
    assert json.loads(schedule["Input"]) == json.loads((ROOT / "events/cleanup.json").read_text())


def test_events_that_nobody_waits_for_end_in_the_dead_letters() -> None:
    for name in ("CleanupFunction", "FileIngestFunction"):
        failures = properties(name)["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]
        assert references(failures) == {"DeadLetters"}, name


def test_table_and_indexes_are_as_the_stores_expect_them() -> None:
    table = properties("Table")
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["pk", "sk"]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert {
        index["IndexName"]: [key["AttributeName"] for key in index["KeySchema"]] + [*index["Projection"].values()]
        for index in table["GlobalSecondaryIndexes"]
    } == {
        "by_expiry": ["expiryShard", "expiresAt", "KEYS_ONLY"],
        "by_owner": ["ownerKey", "expiresAt", "KEYS_ONLY"],
    }
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    assert types == {"pk": "S", "sk": "S", "expiryShard": "S", "ownerKey": "S", "expiresAt": "N"}
    assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True


def test_data_outlives_the_stack_and_is_encrypted_and_private() -> None:
    for name in ("Table", "Bucket"):
        assert RESOURCES[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"
    assert properties("Table")["SSESpecification"]["SSEEnabled"] is True
    assert properties("Bucket")["BucketEncryption"]
    assert set(properties("Bucket")["PublicAccessBlockConfiguration"].values()) == {True}
    [refuse_http] = properties("BucketPolicy")["PolicyDocument"]["Statement"]
    assert (refuse_http["Effect"], refuse_http["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_the_ingest_function_knows_the_bucket_by_the_name_that_it_has() -> None:
    name = properties("Bucket")["BucketName"]
    assert variables("FileIngestFunction")["BUCKET_NAME"] == name
    prefix, identity = name["Fn::Sub"]
    buckets = [
        (resource["Fn::Sub"][0].split(":::")[1].split("/")[0], resource["Fn::Sub"][1])
        for function, statement in statements()
        for resource in listed(statement["Resource"])
        if function == "FileIngestFunction" and "s3" in str(statement["Action"])
    ]
    assert buckets == [(prefix, identity)] * 2
    assert len(prefix.replace("${Id}", "0" * 36)) <= 63


def test_the_ingest_function_has_room_and_time_for_the_process_that_reads() -> None:
    """A file that breaks a limit of the reading process fails; one that breaks the function's is tried again."""
    function = properties("FileIngestFunction")
    assert function["MemorySize"] * 2**20 >= MEMORY_BYTES + 512 * 2**20
    assert function["Timeout"] >= TIME_LIMIT.total_seconds() + 30
    largest = TEMPLATE["Parameters"]["MaxFileBytes"]["MaxValue"]
    assert function["EphemeralStorage"]["Size"] * 2**20 >= 4 * largest


def test_uploads_and_permissions_share_one_prefix() -> None:
    [upload] = properties("FileIngestFunction")["Events"].values()
    [rule] = upload["Properties"]["Filter"]["S3Key"]["Rules"]
    assert rule == {"Name": "prefix", "Value": "files/"}
    [record] = json.loads((ROOT / "events/s3-upload.json").read_text())["Records"]
    assert record["s3"]["object"]["key"].startswith(rule["Value"])


def test_a_change_of_any_setting_reaches_the_published_version() -> None:
    """SAM publishes a version when the template's text changes. A parameter's new value used to reach only the
    unpublished function, which nobody calls; a description that names it makes CloudFormation publish."""
    api = properties("ApiFunction")
    assert api["AutoPublishAlias"]
    assert api["AutoPublishAliasAllProperties"] is True
    named = references(api["VersionDescription"]) | references(properties("SharedLayer")["Description"])
    environment = {**TEMPLATE["Globals"]["Function"]["Environment"]["Variables"], **variables("ApiFunction")}
    settings = references(environment) & set(TEMPLATE["Parameters"])
    assert settings <= named
    assert {layer["Ref"] for layer in api["Layers"]} <= named


def test_the_snapshot_which_is_paid_for_at_rest_can_be_left_out() -> None:
    api = properties("ApiFunction")
    assert api["SnapStart"] == {"ApplyOn": {"Fn::If": ["HasSnapStart", "PublishedVersions", "None"]}}
    assert "SnapStart" in references(api["VersionDescription"]), "or it would not reach the published version"


def test_descriptions_that_name_settings_stay_within_their_256_characters() -> None:
    def longest(name: str) -> int:
        parameter = TEMPLATE["Parameters"].get(name, {})
        if "AllowedValues" in parameter:
            return max(map(len, map(str, parameter["AllowedValues"])))
        if "MaxValue" in parameter:
            return len(str(parameter["MaxValue"]))
        if "MaxLength" in parameter:
            return int(parameter["MaxLength"])
        return 8  # a layer's version, or "on" and "off"

    for text in (
        properties("ApiFunction")["VersionDescription"]["Fn::Sub"][0],
        properties("SharedLayer")["Description"]["Fn::Sub"],
    ):
        length = len(re.sub(r"\$\{[^}]+\}", "", text)) + sum(map(longest, re.findall(r"\$\{([^}]+)\}", text)))
        assert length <= 256, text


def test_what_local_invocations_set_is_named_in_the_template() -> None:
    """`sam local invoke --env-vars` silently drops variables that the template does not name."""
    everywhere = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    for function, given in json.loads((ROOT / "events/env.json").read_text()).items():
        assert given.keys() <= {**everywhere, **variables(function)}.keys(), function
    assert everywhere["AWS_ENDPOINT_URL"] == NO_VALUE
    assert {name for name, value in variables("ApiFunction").items() if value == NO_VALUE} == {
        "E2B_API_KEY",
        "E2B_API_URL",
        "E2B_SANDBOX_URL",
        "JWT_SECRET",
    }


def test_two_stacks_fit_into_one_account() -> None:
    """SAM names schedules and layers after their logical ids, which are the same in every stack."""
    [tick] = properties("CleanupFunction")["Events"].values()
    assert tick["Properties"]["OmitName"] is True
    for name, layer in of_type("AWS::Serverless::LayerVersion").items():
        assert "AWS::StackName" in references(layer["LayerName"]), name


def test_layers_are_built_by_their_makefiles_for_the_functions_python() -> None:
    runtime = TEMPLATE["Globals"]["Function"]["Runtime"]
    for name, layer in of_type("AWS::Serverless::LayerVersion").items():
        assert RESOURCES[name]["Metadata"]["BuildMethod"] == "makefile"
        assert layer["CompatibleRuntimes"] == [runtime]
        assert f"\nbuild-{name}:" in (ROOT / layer["ContentUri"] / "Makefile").read_text()
    assert f'"{runtime.removeprefix("python")}"' in (ROOT / "layers/build.py").read_text()


def test_every_environment_of_samconfig_deploys_a_stack_of_its_own() -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    environments = {name: value for name, value in config.items() if name != "version"}
    assert environments.keys() == {"default", "dev", "prod"}
    stacks = {each["global"]["parameters"]["stack_name"] for each in environments.values()}
    assert len(stacks) == len(environments)
    for each in environments.values():
        overrides = each["deploy"]["parameters"].get("parameter_overrides", "")
        assert {pair.split("=")[0] for pair in overrides.split()} <= TEMPLATE["Parameters"].keys()
        assert "Key" not in overrides
        assert "Secret" not in overrides
