"""Settings: what a function's environment has to say, and how it is told when it does not."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from sandkeeper.errors import NotConfigured
from sandkeeper.settings import ApiSettings, CleanupSettings, IngestSettings, SandboxSettings, Settings

API = {"TABLE_NAME": "table", "BUCKET_NAME": "bucket", "STACK_NAME": "stack"}


def test_the_defaults_are_those_of_the_docs() -> None:
    settings = ApiSettings.read(API)

    assert settings.lifetimes.session_timeout == timedelta(minutes=30)
    assert settings.lifetimes.idle_pause == timedelta(minutes=5)
    assert settings.max_sessions_per_owner == 20
    assert settings.e2b_sandbox_timeout == 60_000
    assert (settings.max_file_bytes, settings.max_files_per_chat) == (100 * 1024 * 1024, 50)
    assert settings.e2b_template == "code-interpreter-v1"


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        (ApiSettings, ["TABLE_NAME", "BUCKET_NAME", "STACK_NAME"]),
        (CleanupSettings, ["TABLE_NAME", "BUCKET_NAME", "STACK_NAME"]),
        (IngestSettings, ["TABLE_NAME", "BUCKET_NAME"]),
    ],
)
def test_every_missing_variable_is_named_at_once(kind: type[Settings], needed: list[str]) -> None:
    with pytest.raises(NotConfigured) as refused:
        kind.read({})

    assert [name for name in [*API, "E2B_API_KEY"] if name in refused.value.detail] == [
        name for name in API if name in needed
    ]


@pytest.mark.parametrize("name", API)
def test_a_blank_variable_is_as_good_as_missing(name: str) -> None:
    with pytest.raises(NotConfigured, match=name):
        ApiSettings.read({**API, name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("E2B_SANDBOX_TIMEOUT", "999"),
        ("E2B_SANDBOX_TIMEOUT", "3600001"),
        ("E2B_SANDBOX_TIMEOUT", "a minute"),
        ("E2B_SANDBOX_TIMEOUT", ""),
        ("E2B_SESSION_TIMEOUT", "59999"),
        ("E2B_SESSION_TIMEOUT", "82800001"),
        ("E2B_SESSION_TIMEOUT", "1.5"),
        ("E2B_IDLE_PAUSE", "-1"),
        ("E2B_IDLE_PAUSE", "1"),
        ("E2B_IDLE_PAUSE", "14999"),
        ("E2B_IDLE_PAUSE", "82800001"),
        ("E2B_IDLE_PAUSE", ""),
        ("MAX_SESSIONS_PER_OWNER", "0"),
        ("MAX_SESSIONS_PER_OWNER", "101"),
        ("MAX_FILE_BYTES", "0"),
        ("MAX_FILES_PER_CHAT", "-1"),
        ("STACK_NAME", "x" * 65),
    ],
)
def test_a_value_out_of_bounds_is_told_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(NotConfigured, match=name):
        ApiSettings.read({**API, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("E2B_SANDBOX_TIMEOUT", "1000"),
        ("E2B_SANDBOX_TIMEOUT", "3600000"),
        ("E2B_SESSION_TIMEOUT", "60000"),
        ("E2B_SESSION_TIMEOUT", "82800000"),
        ("E2B_IDLE_PAUSE", "0"),
        ("E2B_IDLE_PAUSE", "15000"),
        ("E2B_IDLE_PAUSE", "82800000"),
        ("MAX_SESSIONS_PER_OWNER", "1"),
        ("MAX_SESSIONS_PER_OWNER", "100"),
    ],
)
def test_the_bounds_themselves_are_good(name: str, value: str) -> None:
    assert getattr(ApiSettings.read({**API, name: value}), name.lower()) == int(value)


def test_a_pause_that_would_come_too_soon_is_told_with_what_to_set_instead() -> None:
    with pytest.raises(NotConfigured, match=r"E2B_IDLE_PAUSE: .* 0 \(never pause\) or at least 15000"):
        ApiSettings.read({**API, "E2B_IDLE_PAUSE": "14999"})


@pytest.mark.parametrize("kind", [ApiSettings, CleanupSettings])
def test_all_functions_read_lifetimes_from_the_same_variables(kind: type[SandboxSettings]) -> None:
    lifetimes = kind.read({**API, "E2B_SESSION_TIMEOUT": "60000", "E2B_IDLE_PAUSE": "0"}).lifetimes

    assert (lifetimes.session_timeout, lifetimes.idle_pause) == (timedelta(minutes=1), timedelta(0))


@pytest.mark.parametrize(
    "name",
    [
        "E2B_API_KEY",
        "E2B_API_KEY_SECRET_ID",
        "E2B_API_URL",
        "E2B_SANDBOX_URL",
        "JWT_ISSUER",
        "JWT_AUDIENCE",
        "JWT_JWKS_URL",
        "JWT_SECRET",
        "JWT_SECRET_ID",
    ],
)
def test_a_blank_optional_variable_is_none(name: str) -> None:
    assert getattr(ApiSettings.read({**API, name: ""}), name.lower()) is None


def test_secrets_show_neither_in_text_nor_in_what_is_told() -> None:
    secret = {"E2B_API_KEY": "e2b_canary", "JWT_SECRET": "jwt_canary"}

    assert "canary" not in repr(ApiSettings.read({**API, **secret}))
    with pytest.raises(NotConfigured) as refused:
        ApiSettings.read(secret)
    assert "canary" not in refused.value.detail


def test_what_else_is_in_the_environment_is_of_no_interest() -> None:
    assert ApiSettings.read({**API, "PATH": "/usr/bin", "table_name": "other"}).table_name == "table"


def test_settings_stay_as_they_were_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ApiSettings.read(API).table_name = "other"
