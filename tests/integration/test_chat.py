"""The makers' own SDKs on the script's wires: what is said, called and sent back, and what may go wrong."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import ConfigDict, TypeAdapter, with_config

from examples.chat import providers
from examples.chat.models import (
    MOST_CHARS,
    Answered,
    Asked,
    Call,
    Dialect,
    Image,
    Message,
    Model,
    ModelFailed,
    ToolResult,
    Turn,
)
from examples.chat.scripted.bedrock_wire import framed
from examples.chat.scripted.server import Broken, Raw, Refusal, Reply, Scripted, serving
from examples.chat.scripted.wires import Request
from examples.chat.settings import BadSetting
from sandkeeper.http import tools

DIALECTS: tuple[Dialect, ...] = ("anthropic", "openai", "bedrock")
TOOLS = {"anthropic": tools.anthropic(), "openai": tools.openai_chat(), "bedrock": tools.bedrock()}
PNG = b"\x89PNG\r\n\x1a\n"
CALL = Call("call_1", "run_python", '{"code": "print(“ä”)"}')
SPOKEN = Turn(text="Let me look at the file.", calls=[CALL, Call("call_2", "other", "{}")])

Answer = Callable[[Request], Reply]


@contextmanager
def answering(dialect: Dialect, answer: Answer) -> Iterator[tuple[Model, Scripted]]:
    """A model that answers as the test says, asked by the maker's SDK over loopback."""
    with serving(answer) as server, closing(providers.scripted(dialect, server.url)) as model:
        yield model, server


def ask(dialect: Dialect, reply: Reply, *messages: Message) -> tuple[Turn, list[str]]:
    """Returns the turn that the SDK makes of a reply, and what it said piece by piece."""
    said: list[str] = []
    with answering(dialect, lambda _: reply) as (model, _):
        turn = model.reply("You are brief.", messages or [Asked("Hi")], TOOLS[dialect], said.append)
    return turn, said


def failure(dialect: Dialect, reply: Reply) -> str:
    """Returns why there is no turn."""
    with pytest.raises(ModelFailed) as raised:
        ask(dialect, reply)
    return str(raised.value)


# ── Said and called ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dialect", DIALECTS)
def test_text_comes_piece_by_piece_and_calls_come_whole(dialect: Dialect) -> None:
    turn, said = ask(dialect, SPOKEN)

    assert len(said) > 1
    assert (turn.text, "".join(said)) == (SPOKEN.text, SPOKEN.text)
    assert turn.calls == SPOKEN.calls


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("turn", [Turn(text="Done."), Turn(calls=[CALL])], ids=["text alone", "a call alone"])
def test_a_turn_may_have_one_without_the_other(dialect: Dialect, turn: Turn) -> None:
    came, _ = ask(dialect, turn)
    assert (came.text, [*came.calls]) == (turn.text, [*turn.calls])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_came_of_calls_is_sent_back_with_pictures_and_advice(dialect: Dialect) -> None:
    heard: list[Request] = []

    def answer(request: Request) -> Reply:
        heard.append(request)
        return SPOKEN

    with answering(dialect, answer) as (model, server):
        question = Asked("What is in the plot?")
        turn = model.reply("You are brief.", [question], TOOLS[dialect], str)
        first, second = turn.calls
        results = [
            ToolResult(first, "a plot", images=[Image("image/png", PNG)]),
            ToolResult(second, "Error (user_code): it failed", is_error=True),
        ]
        model.reply("You are brief.", [question, turn, Answered(results, "Take care.")], TOOLS[dialect], str)

    last = heard[-1]
    assert (last.system, last.question, last.tools) == ("You are brief.", "What is in the plot?", ["run_python"])
    assert [(each.text, each.is_error) for each in last.results] == [
        ("a plot", False),
        ("Error (user_code): it failed", True),
    ]
    assert sum(each.images for each in last.results) == 1
    sent = json.dumps(server.bodies[-1])
    assert "Take care." in sent
    assert SPOKEN.text in sent


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_whose_arguments_are_no_json_can_be_sent_back(dialect: Dialect) -> None:
    with answering(dialect, lambda _: Turn(calls=[Call("x", "run_python", '{"code": ')])) as (model, server):
        turn = model.reply("s", [Asked("Hi")], TOOLS[dialect], str)
        (call,) = turn.calls
        answered = Answered([ToolResult(call, "Not run", is_error=True)])
        model.reply("s", [Asked("Hi"), turn, answered], TOOLS[dialect], str)

    assert call.arguments == '{"code": '
    assert len(server.bodies) == 2


def whole(value: Any) -> Any:
    """Returns a value whose parts have all been held to their types: pydantic does so when they are looked at."""
    if isinstance(value, dict):
        return {name: whole(part) for name, part in value.items()}
    return [whole(part) for part in value] if hasattr(value, "__iter__") and not isinstance(value, str) else value


@pytest.mark.parametrize(
    ("dialect", "kind"),
    [("anthropic", MessageCreateParamsStreaming), ("openai", CompletionCreateParamsStreaming)],
)
def test_what_is_sent_is_as_the_makers_types_say(dialect: Dialect, kind: Any) -> None:
    """botocore holds Bedrock's requests to its model by itself."""
    adapter: TypeAdapter[Any] = TypeAdapter(with_config(ConfigDict(extra="forbid"))(kind))
    with answering(dialect, lambda _: SPOKEN) as (model, server):
        turn = model.reply("s", [Asked("Hi")], TOOLS[dialect], str)
        results = [ToolResult(call, "42", images=[Image("image/jpeg", b"x")]) for call in turn.calls]
        model.reply("s", [Asked("Hi"), turn, Answered(results, "note")], TOOLS[dialect], str)

    for body in server.bodies:
        assert whole(adapter.validate_python(body)) == body


def test_reasoning_of_anthropics_models_goes_back_as_it_came() -> None:
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    deltas = [{"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "signed"}]
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {}}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": thought},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Yes."}},
        stop,
        {"type": "message_stop"},
    ]
    written = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events)

    turn, said = ask("anthropic", Raw(written.encode()))

    assert said == ["Yes."]
    assert turn.blocks == [
        {"type": "thinking", "thinking": "Hm.", "signature": "signed"},
        {"type": "text", "text": "Yes."},
    ]


# ── What may go wrong ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("status", [400, 404, 429, 500, 529])
def test_an_error_of_the_maker_is_told_with_its_status_and_words(dialect: Dialect, status: int) -> None:
    told = failure(dialect, Refusal(status, "the model has a headache"))
    assert str(status) in told
    assert "the model has a headache" in told


@pytest.mark.parametrize("dialect", ["anthropic", "openai"])
def test_a_key_that_is_refused_is_told_without_the_makers_words_which_may_quote_it(dialect: Dialect) -> None:
    told = failure(dialect, Refusal(401, f"Incorrect API key provided: {providers.SCRIPT_KEY}"))
    assert f"the key in {dialect.upper()}_API_KEY is refused" in told
    assert providers.SCRIPT_KEY not in told


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("is_ended", [False, True], ids=["in the middle of it", "as if it were over"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_stream_that_breaks_is_no_turn(dialect: Dialect, is_ended: bool, after: int) -> None:
    told = failure(dialect, Broken(SPOKEN, after, is_ended))
    assert told.lower().startswith(dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>no</html>",
        b"data: 42\n\n",
        b"event: message_stop\ndata: {\n\n",
        b"\x00" * 64,
        b"data: [DONE]\n\n",
    ],
)
def test_what_is_no_stream_of_the_makers_is_no_turn(dialect: Dialect, content: bytes) -> None:
    assert failure(dialect, Raw(content)).lower().startswith(dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_turn_without_end_is_broken_off(dialect: Dialect) -> None:
    assert "was broken off" in failure(dialect, Turn(calls=[Call("1", "run_python", "x" * (MOST_CHARS + 50))]))


def test_an_error_in_the_middle_of_anthropics_stream_is_told_in_its_words() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    told = failure("anthropic", Raw(f"event: error\ndata: {json.dumps(error)}\n\n".encode()))
    assert "Overloaded" in told


def test_a_model_that_was_cut_off_has_not_answered() -> None:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    cut = {**chunk, "choices": [{"index": 0, "delta": {"content": "The ans"}, "finish_reason": "length"}]}
    assert "'length'" in failure("openai", Raw(f"data: {json.dumps(cut)}\n\ndata: [DONE]\n\n".encode()))
    assert "'max_tokens'" in failure("bedrock", Raw(framed("messageStop", {"stopReason": "max_tokens"})))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_where_nobody_listens_it_is_told(dialect: Dialect) -> None:
    with serving() as server:
        url = server.url
    with (
        closing(providers.scripted(dialect, url)) as model,
        pytest.raises(ModelFailed, match=r"(?i)connect"),
    ):
        model.reply("s", [Asked("Hi")], TOOLS[dialect], str)


def test_without_credentials_bedrock_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(BadSetting, match="AWS_BEARER_TOKEN_BEDROCK is not set"):
        providers.real("bedrock", "m", {"AWS_REGION": "us-east-1"})
    assert "boto3" in sys.modules
