"""What the example chat takes of a model, which may say anything; and that an example is anybody's program."""

import json
from pathlib import Path
from typing import Any

import pytest

from examples.chat import tools
from examples.chat.models import (
    MOST_CHARS,
    BadCall,
    Call,
    Listening,
    ModelFailed,
    ended,
    mapped,
)
from sandkeeper.http import tools as served
from tests.unit.test_architecture import imports, name_of

EXAMPLES = Path(__file__).parents[2] / "examples"
SCHEMAS = tools.schemas(served.anthropic(), "anthropic")


def ignore(_: str) -> None:
    """Hears nothing."""


@pytest.mark.parametrize("module", sorted(EXAMPLES.rglob("*.py")), ids=name_of)
def test_an_example_needs_the_client_and_nothing_else_of_ours(module: Path) -> None:
    """It is what others are to begin with."""
    ours = {"sandkeeper", "local", "tests", "functions", "deploy", "bench", "layers"}
    assert {name.partition(".")[0] for name in imports(module)} & ours == set()


# ── Calls ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_tool_is_found_in_every_makers_words() -> None:
    schema = dict(served.input_schema())
    assert tools.schemas(served.anthropic(), "anthropic") == {"run_python": schema}
    assert tools.schemas(served.openai_chat(), "openai") == {"run_python": schema}
    assert tools.schemas(served.bedrock(), "bedrock") == {"run_python": schema}


def test_a_call_as_the_tool_wants_it_is_taken() -> None:
    call = Call("1", "run_python", '{"code": "1", "timeoutMs": 5000}')
    assert tools.inputs(call, SCHEMAS) == {"code": "1", "timeoutMs": 5_000}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"code": "1"', "no JSON"),
        ("", "required"),
        ("[1]", "no JSON object"),
        ('{"code": "1", "timeoutMs": NaN}', "NaN is no JSON"),
        ('{"code": "\\ud800"}', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"code": ' + "1" * 5_000 + "}", "no JSON"),
        ('{"code": 1}', "code: type 'string'"),
        ('{"code": ""}', "code: minLength 1"),
        ('{"code": "1", "timeoutMs": 5}', "timeoutMs: minimum 1000"),
        ('{"code": "1", "shell": "rm"}', "additionalProperties"),
        (json.dumps({"code": "#" * 50_001}), "code: maxLength 50000"),
    ],
)
def test_arguments_that_are_none_are_told_to_the_model_in_few_words(arguments: str, reason: str) -> None:
    with pytest.raises(BadCall) as raised:
        tools.inputs(Call("1", "run_python", arguments), SCHEMAS)
    assert reason in str(raised.value)
    assert len(str(raised.value)) < 500


def test_a_tool_that_there_is_not_is_told_with_the_one_that_there_is() -> None:
    with pytest.raises(BadCall, match="no tool 'rm_rf'; call 'run_python'"):
        tools.inputs(Call("1", "rm_rf", "{}"), SCHEMAS)


def test_what_is_no_object_goes_back_as_an_empty_one_to_those_who_take_nothing_else() -> None:
    assert Call("1", "x", "{{{").inputs_or_none() == {}
    assert Call("1", "x", '{"code": "1"}').inputs_or_none() == {"code": "1"}


# ── Turns ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_turn_is_put_together_of_its_pieces() -> None:
    told: list[str] = []
    heard = Listening(told.append)
    heard.text("Let me ")
    heard.call(1, "b", "run_python")
    heard.call(0, "a", "run_python")
    heard.arguments(1, '{"code":')
    heard.text("see.")
    heard.arguments(1, ' "2"}')

    turn = heard.turn()

    assert told == ["Let me ", "see."]
    assert (turn.text, turn.calls) == (
        "Let me see.",
        [Call("a", "run_python", ""), Call("b", "run_python", '{"code": "2"}')],
    )


def test_a_turn_without_end_is_broken_off() -> None:
    heard = Listening(ignore)
    heard.arguments(0, "x" * MOST_CHARS)
    with pytest.raises(ModelFailed, match="longer than 400,000 characters"):
        heard.text("y")


def test_what_cannot_be_encoded_is_not_said() -> None:
    told: list[str] = []
    Listening(told.append).text("a\ud800b")
    assert told == ["a?b"]


@pytest.mark.parametrize(("call_id", "name"), [("", "run_python"), ("1", ""), (None, None)])
def test_a_call_that_nobody_can_answer_ends_the_turn(call_id: str | None, name: str | None) -> None:
    heard = Listening(ignore)
    heard.call(0, call_id, name)
    with pytest.raises(ModelFailed, match="without saying which"):
        heard.turn()


def test_a_makers_errors_are_told_in_few_words() -> None:
    with pytest.raises(ModelFailed) as raised, mapped("Maker", str, OSError):
        raise OSError("x" * 9_999)
    assert str(raised.value) == "Maker: " + "x" * 300


@pytest.mark.parametrize(
    "error", [KeyError("x"), TypeError("x"), AttributeError("x"), json.JSONDecodeError("x", "", 0)]
)
def test_a_reply_that_is_none_is_told_as_such(error: Exception) -> None:
    with pytest.raises(ModelFailed, match="none of its replies"), mapped("Maker", str, OSError):
        raise error


@pytest.mark.parametrize(("reason", "told"), [(None, "broke off"), ("max_tokens", "'max_tokens'")])
def test_only_a_turn_that_came_to_its_end_counts(reason: Any, told: str) -> None:
    ended("Maker", "end_turn", "end_turn")
    with pytest.raises(ModelFailed, match=told):
        ended("Maker", reason, "end_turn")
