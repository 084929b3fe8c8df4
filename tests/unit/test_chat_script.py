"""The script that answers as a model does, and its wires, which the makers' own libraries read."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from anthropic.types import RawMessageStreamEvent
from botocore.eventstream import EventStreamBuffer
from botocore.session import get_session
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

from examples.chat.models import Call, Turn
from examples.chat.scripted import script
from examples.chat.scripted.anthropic_wire import AnthropicWire
from examples.chat.scripted.bedrock_wire import BedrockWire
from examples.chat.scripted.openai_wire import OpenAIWire
from examples.chat.scripted.wires import Request, Result, Unfit

QUESTION = "What is the average salary?"
SYSTEM = "- `/home/user/people.csv` (delimited text): 15 rows"
SEEN = Result("stdout:\n(15, 2)\nName    str\nSalary    int64\ndtype: object", False)
FAILED = Result("Error (user_code): KeyError: 'salary'", True)
TURN = Turn(text="Let me look, “now”.", calls=[Call("a", "run_python", '{"code": "é"}'), Call("b", "other", "{}")])


def asked(*results: Result, question: str = QUESTION, tools: Sequence[str] = ("run_python",)) -> Turn:
    """Returns what the script does after these results."""
    return script.reply(Request(system=SYSTEM, question=question, results=results, tools=tools))


def code(turn: Turn) -> str:
    """Returns the code that a turn calls for."""
    (call,) = turn.calls
    told: str = json.loads(call.arguments)["code"]
    return told


# ── The script ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["people.csv", "my people (2).CSV", "it's.csv"])
def test_it_looks_at_the_file_that_the_context_names_first(name: str) -> None:
    request = Request(system=f"- `/home/user/{name}` (text)", question=QUESTION, results=[], tools=["run_python"])
    assert f"pd.read_csv({name!r})" in code(script.reply(request))


def test_it_takes_the_columns_name_from_the_question_and_corrects_it_by_what_it_has_seen() -> None:
    assert "df['salary']" in code(asked(SEEN))
    assert "df['Salary']" in code(asked(SEEN, FAILED))


@pytest.mark.parametrize("figure", ["83,666.67", "-1.50", "7"])
def test_its_answer_is_the_figure_that_it_was_sent(figure: str) -> None:
    turn = asked(SEEN, FAILED, Result(f"stdout:\nAverage Salary: {figure}\n", False))
    assert (turn.text, turn.calls) == (f"The average salary is {figure}.", ())


def test_without_a_figure_it_names_none() -> None:
    assert asked(SEEN, FAILED, Result("nothing", False)).calls == ()
    assert not any(character.isdigit() for character in asked(SEEN, FAILED, Result("nothing", False)).text)


def test_a_column_that_there_is_not_is_given_up() -> None:
    turn = asked(SEEN, FAILED, question="What is the mean bonus?")
    assert (turn.text, turn.calls) == ("The file has no column 'bonus' that has an average.", ())


def test_it_comes_to_an_end_whatever_it_is_sent() -> None:
    assert asked(FAILED).calls == ()
    assert asked(SEEN, FAILED, FAILED).calls == ()
    assert asked(*[SEEN] * 9).calls == ()


def test_asked_for_a_plot_it_draws_one_and_says_how_many_pictures_it_was_sent() -> None:
    assert "plt.show()" in code(asked(SEEN, question="Draw a plot"))
    assert "1 picture" in asked(SEEN, Result("[image]", False, images=1), question="Draw a plot").text


@pytest.mark.parametrize("question", ["Hello!", "", "What is the weather like?"])
def test_asked_for_anything_else_it_says_that_it_is_a_script(question: str) -> None:
    assert asked(question=question).text.startswith("I am a script and no model")


def test_without_the_tool_it_calls_none() -> None:
    assert asked(tools=()).calls == ()


# ── The wires ───────────────────────────────────────────────────────────────────────────────────────────


def test_its_anthropic_events_are_anthropics() -> None:
    written = b"".join(AnthropicWire().write(TURN)).decode().split("\n\n")[:-1]

    adapter = TypeAdapter[Any](RawMessageStreamEvent)
    for event in written:
        name, data = event.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        adapter.validate_python(told, strict=True)


def test_its_openai_chunks_are_openais() -> None:
    *chunks, done, rest = b"".join(OpenAIWire().write(TURN)).decode().split("\n\n")

    assert (done, rest) == ("data: [DONE]", "")
    assert len(chunks) > 5
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk.removeprefix("data: "), strict=True)


def test_its_bedrock_messages_are_framed_as_aws_does_and_hold_what_its_model_knows() -> None:
    buffer = EventStreamBuffer()
    for message in BedrockWire().write(TURN):
        buffer.add_data(message)
    events = [*buffer]

    model = get_session().get_service_model("bedrock-runtime")
    known = model.operation_model("ConverseStream").output_shape.members["stream"].members
    arguments = ""
    for event in events:
        assert event.headers[":message-type"] == "event"
        told = json.loads(event.payload)
        assert set(told) <= set(known[event.headers[":event-type"]].members)
        if told.get("contentBlockIndex") == 1 and "delta" in told:
            arguments += told["delta"]["toolUse"]["input"]
    assert events[-1].headers[":event-type"] == "metadata"
    assert arguments == TURN.calls[0].arguments


def test_a_result_that_answers_no_call_is_refused() -> None:
    question = {"role": "user", "content": QUESTION}
    result = {"type": "tool_result", "tool_use_id": "other", "content": "42"}
    call = {"type": "tool_use", "id": "a", "name": "run_python", "input": {}}
    messages = [question, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    with pytest.raises(Unfit, match="other"):
        AnthropicWire().read({"stream": True, "messages": messages})

    tool = {"role": "tool", "tool_call_id": "other", "content": "42"}
    with pytest.raises(Unfit, match="other"):
        OpenAIWire().read({"stream": True, "messages": [question, tool]})
