"""The example chat's settings, and what it lets onto a terminal."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from examples.chat import providers
from examples.chat.models import Call, Dialect
from examples.chat.screen import Screen, plain
from examples.chat.settings import BadSetting, Settings
from sandkeeper_client import Output, Run
from tests.client_service import NOW, run_told, text

SECRET = "sk-of-somebody"


def shown(act: Any) -> str:
    """Returns what an act on the screen shows."""
    paper = StringIO()
    act(Screen(Console(file=paper, width=80)))
    return paper.getvalue()


# ── Settings ────────────────────────────────────────────────────────────────────────────────────────────


def test_where_nothing_is_asked_for_a_script_answers() -> None:
    settings = Settings.of({"PROVIDER": ""})
    assert (settings.provider, settings.wire, settings.service_url) == ("scripted", "anthropic", "")
    assert settings.file.name == "employee_data.csv"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"PROVIDER": "clippy"}, "PROVIDER='clippy' is none of scripted, anthropic, openai, bedrock"),
        ({"WIRE": "telex"}, "WIRE='telex'"),
        ({"FILE": "/nowhere.csv"}, "FILE='/nowhere.csv' is no file"),
        ({"SANDKEEPER_URL": "https://x.test"}, "SANDKEEPER_TOKEN is not set"),
    ],
)
def test_a_wrong_variable_is_named_with_the_fix(given: dict[str, str], told: str) -> None:
    with pytest.raises(BadSetting, match=told):
        Settings.of(given)


@pytest.mark.parametrize(
    ("maker", "environment", "missing"),
    [
        ("anthropic", {"ANTHROPIC_API_KEY": SECRET}, "MODEL"),
        ("anthropic", {"MODEL": "m"}, "ANTHROPIC_API_KEY"),
        ("openai", {"OPENAI_API_KEY": SECRET}, "MODEL"),
        ("openai", {"MODEL": "m", "OPENAI_API_KEY": ""}, "OPENAI_API_KEY"),
        ("bedrock", {"AWS_REGION": "us-east-1"}, "MODEL"),
        ("bedrock", {"MODEL": "m"}, "AWS_REGION"),
    ],
)
def test_a_key_or_model_that_is_missing_is_named(maker: Dialect, environment: dict[str, str], missing: str) -> None:
    with pytest.raises(BadSetting, match=f"^{missing} is not set: PROVIDER={maker} needs") as raised:
        providers.real(maker, environment.get("MODEL", ""), environment)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("maker", ["anthropic", "openai"])
def test_with_all_of_it_there_is_a_model_of_that_maker(maker: Dialect) -> None:
    keys = {"ANTHROPIC_API_KEY": SECRET, "OPENAI_API_KEY": SECRET}
    model = providers.real(maker, "m", keys)
    assert model.dialect == maker
    assert SECRET not in repr(model)


def test_a_setting_never_shows_the_services_token() -> None:
    settings = Settings.of({"SANDKEEPER_URL": "https://x.test", "SANDKEEPER_TOKEN": SECRET})
    assert SECRET not in repr(settings)


# ── The screen ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bad", ["\x1b]0;title\x07", "\x1b[2J", "\x9b2J", "a\rb", "\x08", "\x00", "\u0085"[:1]])
def test_nothing_that_others_have_written_commands_the_terminal(bad: str) -> None:
    result = {"id": "1", "name": "output", "at": NOW, "results": [text(bad)]}
    seen = [
        plain(bad),
        shown(lambda screen: screen.said(bad)),
        shown(lambda screen: screen.began(f"x = '{bad}'")),
        shown(lambda screen: screen.shown(Output.of(result))),
        shown(lambda screen: screen.ran(Run.of(run_told(success=False, error=bad)))),
        shown(lambda screen: screen.refused(Call("1", bad, ""), bad)),
        shown(lambda screen: screen.failed(bad)),
    ]
    assert [each for each in seen if set(each) & set("\x1b\x9b\x07\x08\x00\r\x85")] == []


def test_markup_of_the_terminals_library_is_text() -> None:
    assert "[red]x[/red] [link=file:///etc]" in shown(lambda screen: screen.said("[red]x[/red] [link=file:///etc]"))


def test_output_that_is_no_text_is_named() -> None:
    picture = {"type": "image", "mimeType": "image/png", "content": "iVBORw0KGgo="}
    result = {"id": "1", "name": "output", "at": NOW, "results": [picture]}
    assert shown(lambda screen: screen.shown(Output.of(result))) == "[image: image/png]\n"


def test_code_that_shows_nothing_is_told_to_have_run() -> None:
    assert shown(lambda screen: screen.ran(Run.of(run_told()))) == "✔\n"


def test_the_sample_is_part_of_the_checkout() -> None:
    assert Path(Settings.of({}).file).read_text().startswith("EmployeeID,")
