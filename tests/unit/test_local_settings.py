"""What the environment asks of the local stack, and what the functions get to see of it."""

import pytest

from local.settings import Settings, SettingsError
from local.stack import service_environment


def test_the_environment_says_where_to_listen_and_with_which_key() -> None:
    asked = {"HOST": "127.0.0.2", "API_PORT": "0", "AWS_PORT": "9", "API_KEY": "sk_mine", "NETWORK": "1"}
    settings = Settings.from_environment(asked)
    assert (settings.host, settings.api_port, settings.aws_port) == ("127.0.0.2", 0, 9)
    assert (settings.api_key, settings.network, settings.no_isolation) == ("sk_mine", True, False)


def test_empty_variables_ask_for_nothing() -> None:
    assert Settings.from_environment({"HOST": "", "API_PORT": "", "API_KEY": "", "NETWORK": ""}) == Settings()


@pytest.mark.parametrize("value", ["http", "-1", "65536", "80.5"])
def test_a_port_that_is_no_port_is_named_with_its_variable(value: str) -> None:
    with pytest.raises(SettingsError, match=f"SANDBOX_PORT='{value}'"):
        Settings.from_environment({"SANDBOX_PORT": value})


def test_a_stack_that_listens_everywhere_is_reached_through_loopback() -> None:
    settings = Settings(host="0.0.0.0")  # noqa: S104 - nothing listens
    assert not settings.is_loopback
    assert settings.api_url == "http://127.0.0.1:8000"


def test_the_functions_see_none_of_the_users_own_accounts() -> None:
    users = {"AWS_PROFILE": "work", "AWS_SESSION_TOKEN": "secret", "E2B_API_KEY": "e2b_real", "PATH": "/bin"}
    environment = service_environment(Settings(), users)
    assert not {"work", "secret", "e2b_real"} & set(environment.values())
    assert environment["PATH"] == "/bin"
    assert environment["E2B_API_URL"] == environment["E2B_SANDBOX_URL"] == "http://127.0.0.1:8010"


def test_the_users_limits_do_reach_the_functions() -> None:
    environment = service_environment(Settings(), {"E2B_SANDBOX_TIMEOUT": "5000"})
    assert environment["E2B_SANDBOX_TIMEOUT"] == "5000"


def test_loopback_goes_through_no_proxy() -> None:
    environment = service_environment(Settings(), {"NO_PROXY": "example.org"})
    assert environment["NO_PROXY"].split(",") == ["example.org", "127.0.0.1", "localhost"]
