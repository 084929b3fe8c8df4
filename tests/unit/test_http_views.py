"""Replies in the views that were asked for, and within their size."""

import base64
import json
from typing import Any

import nbformat
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from sandkeeper.errors import NotConfigured, StoreUnavailable
from sandkeeper.http.app import create_app
from sandkeeper.http.fitting import EVENT_BYTES, Fitting, weight
from sandkeeper.http.result_schemas import ResultSchema
from sandkeeper.model import Display, Output, Raised, RunEnd, RunOutcome, Stream
from sandkeeper.outputs import CHART, DATA, notebook_view, simple_view
from sandkeeper.services.requests import REPLY_BYTES
from tests.outputs import OUTPUTS
from tests.world import CHAT, TOKEN, World

EXECUTE = "/api/jupyter/execute"
RUNS = "/api/chats/chat-1/executions"
LAMBDA_BYTES = 6_000_000
HTML = "<p>žluťoučký kůň</p>" * 300_000
PLOT = Display({"text/plain": "<Figure>", "image/png": "aGk=", CHART: {"type": "bar"}})


def puts_out(world: World, *outputs: Output, end: RunEnd = RunEnd.FINISHED) -> None:
    """Lets code put this out."""
    world.sandboxes.program = lambda *_: RunOutcome(list(outputs), end)


def execute(client: TestClient, **fields: Any) -> dict[str, Any]:
    """Returns the reply to a run, which must be within its size."""
    reply = client.post(EXECUTE, json={"chatId": "chat-1", "code": "1"} | fields)
    assert reply.status_code == 200, reply.text
    assert_fits(reply.content)
    answer: dict[str, Any] = reply.json()
    return answer


def assert_fits(body: bytes) -> None:
    """Fails for a reply that is too large, or that Lambda could not hand on."""
    assert len(body) <= REPLY_BYTES
    assert len(json.dumps(body.decode(), ensure_ascii=False).encode()) <= LAMBDA_BYTES


def assert_valid(cells: list[dict[str, Any]]) -> None:
    """Fails unless these are the outputs of a notebook's cell."""
    cell: dict[str, Any] = {"cell_type": "code", "id": "a", "metadata": {}, "source": "", "execution_count": None}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell | {"outputs": cells}]}
    nbformat.validate(notebook)


# ── Views ───────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_included_that_was_not_asked_for(world: World, client: TestClient) -> None:
    puts_out(world, Stream("stdout", "a"))

    answer = execute(client)

    assert (answer["outputs"], answer["model"]) == (None, None)


def test_both_views_are_included_where_asked_for(world: World, client: TestClient) -> None:
    puts_out(world, Stream("stdout", "a\n"), PLOT)

    answer = execute(client, include=["outputs", "model"])

    assert [result["type"] for result in answer["results"]] == ["text", "image", "chart"]
    assert [cell["output_type"] for cell in answer["outputs"]] == ["stream", "display_data"]
    assert answer["outputs"][1]["data"] == PLOT.data
    assert answer["model"] == "stdout:\na\n[image/png, 3 bytes: shown to the user]\n[chart: bar]"
    assert_valid(answer["outputs"])


def test_a_run_that_was_not_waited_for_has_them_too(world: World, client: TestClient) -> None:
    world.sandboxes.program = lambda *_: None
    run_id = client.post(EXECUTE, json={"chatId": "chat-1", "code": "1", "mode": "async"}).json()["executionId"]
    world.sandboxes.finish(run_id, RunOutcome([Stream("stdout", "a")], RunEnd.FINISHED))

    plain, *others = (
        client.get(f"{RUNS}/{run_id}", params={"include": include}).json()["result"]
        for include in ([], ["model"], ["model", "outputs"])
    )

    assert (plain["outputs"], plain["model"]) == (None, None)
    assert [(other["outputs"] is not None, other["model"]) for other in others] == [
        (False, "stdout:\na"),
        (True, "stdout:\na"),
    ]


@pytest.mark.parametrize("include", [["model", "model"], ["models"], "model", [None]])
def test_a_view_that_there_is_none_of_is_refused(client: TestClient, include: Any) -> None:
    reply = client.post(EXECUTE, json={"chatId": "chat-1", "code": "1", "include": include})

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["pointer"].startswith("/include")


def test_a_query_for_a_view_that_there_is_none_of_is_refused(client: TestClient) -> None:
    reply = client.get(f"{RUNS}/01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z", params={"include": ["model", "model"]})

    assert reply.status_code == 422


def test_a_repeated_request_may_ask_for_another_view_of_its_run(world: World, client: TestClient) -> None:
    puts_out(world, Stream("stdout", "a"))
    body = {"chatId": "chat-1", "code": "1"}
    first = client.post(EXECUTE, json=body, headers={"Idempotency-Key": "k"}).json()

    again = client.post(EXECUTE, json=body | {"include": ["model"]}, headers={"Idempotency-Key": "k"})

    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["executionId"] == first["executionId"]
    assert again.json()["model"] == "stdout:\na"


def test_a_run_that_was_stopped_says_so_in_every_view(world: World, client: TestClient) -> None:
    stopped = Raised("KeyboardInterrupt", "", "Cell In[1], line 2\nKeyboardInterrupt: ")
    puts_out(world, Stream("stdout", "a\n"), stopped, end=RunEnd.TIMEOUT)

    answer = execute(client, include=["outputs", "model"])

    assert [result["type"] for result in answer["results"]] == ["text"]
    assert [(cell["output_type"], cell.get("ename")) for cell in answer["outputs"]] == [
        ("stream", None),
        ("error", "TimeoutError"),
    ]
    assert "Cell In[1], line 2" in answer["model"]
    assert f"Error (timeout): {answer['error']}" in answer["model"]
    assert_valid(answer["outputs"])


def test_what_no_json_can_say_does_not_spoil_the_reply(world: World, client: TestClient) -> None:
    nested: Any = float("nan")
    for _ in range(500):
        nested = [nested]
    half = "a\ud83d"
    puts_out(
        world,
        Stream("stdout", half),
        Display({"application/json": nested, "text/plain": half}),
        Display({"text/html": nested}),
        Raised(half, half, half),
    )

    answer = execute(client, include=["outputs", "model"])

    assert answer["results"][0]["content"] == "a\N{REPLACEMENT CHARACTER}"
    assert answer["errorDetail"]["value"] == "a\N{REPLACEMENT CHARACTER}"


# ── Size ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_too_large_is_linked_to_and_the_rest_stays(world: World, client: TestClient) -> None:
    puts_out(world, Stream("stdout", "before"), Display({"text/html": HTML, "text/plain": "html"}), PLOT)

    answer = execute(client, include=["outputs"])

    assert [result["type"] for result in answer["results"]] == ["text", "html", "image", "chart"]
    linked = answer["results"][1]
    assert linked == {
        "type": "html",
        "mimeType": "text/html",
        "url": linked["url"],
        "size": len(HTML.encode()),
        "expiresIn": 3_600_000,
    }
    assert world.results.kept == {linked["url"]: (CHAT, HTML.encode(), "text/html")}
    assert answer["outputs"][1]["metadata"]["sandkeeper"] == {
        name: value for name, value in linked.items() if name != "type"
    }
    assert linked["url"] in answer["outputs"][1]["data"]["text/plain"]
    assert set(answer["outputs"][1]["data"]) == {"text/plain"}
    assert_valid(answer["outputs"])


def test_the_largest_gives_way_first_and_no_more_than_have_to(world: World, client: TestClient) -> None:
    sizes = [100_000, 1_500_000, 3_000_000, 2_000_000, 200_000]
    puts_out(world, *(Display({"text/html": "x" * size}) for size in sizes))

    answer = execute(client)

    assert ["url" in result for result in answer["results"]] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("output", "content", "mime_type"),
    [
        (Display({"image/png": base64.b64encode(b"p" * 4_000_000).decode()}), b"p" * 4_000_000, "image/png"),
        (Display({"image/png": "no image!" * 600_000}), b"no image!" * 600_000, "image/png"),
        (Display({"image/svg+xml": "<svg>é" * 900_000}), "<svg>é".encode() * 900_000, "image/svg+xml"),
        (Stream("stderr", "e" * 5_000_000), b"e" * 5_000_000, "text/plain"),
        (
            Display({"application/json": ["é" * 2_500_000]}),
            ('["' + "é" * 2_500_000 + '"]').encode(),
            "application/json",
        ),
        (Raised("E", "e", "t" * 5_000_000), b"t" * 5_000_000, "text/plain"),
    ],
    ids=["image", "no image", "svg", "text", "json", "error"],
)
def test_a_link_leads_to_the_content_as_a_file_would_hold_it(
    world: World, client: TestClient, output: Output, content: bytes, mime_type: str
) -> None:
    puts_out(world, output)

    answer = execute(client, include=["outputs"])

    assert world.results.kept[answer["results"][0]["url"]] == (CHAT, content, mime_type)
    assert_valid(answer["outputs"])


def test_a_table_and_its_html_are_linked_to_each_for_itself(world: World, client: TestClient) -> None:
    data = {"a": ["x" * 100] * 50_000}
    puts_out(world, Display({"text/html": HTML, DATA: data, "text/plain": "table"}))

    answer = execute(client)

    assert [(result["type"], "url" in result) for result in answer["results"]] == [("html", True), ("table", True)]
    assert json.loads(world.results.kept[answer["results"][1]["url"]][1]) == data


def test_text_that_is_full_of_quotes_is_no_more_than_lambda_hands_on(world: World, client: TestClient) -> None:
    puts_out(world, *(Display({"text/html": '"\\' * 240_000}) for _ in range(4)))

    answer = execute(client)

    assert 1 <= sum("url" in result for result in answer["results"]) < 4


def test_very_many_small_results_are_cut_and_their_rest_is_one_document(world: World, client: TestClient) -> None:
    puts_out(world, *(Display({"text/plain": f"value {number}"}) for number in range(50_000)))

    answer = execute(client, include=["outputs"])

    *shown, rest = answer["results"]
    document = json.loads(world.results.kept[rest["url"]][1])
    assert rest["type"] == "json"
    assert [result["content"] for result in [*shown, *document]] == [f"value {number}" for number in range(50_000)]
    *cells, last = answer["outputs"]
    kept = json.loads(world.results.kept[last["metadata"]["sandkeeper"]["url"]][1])
    assert_valid([*cells[:100], last])
    assert_valid(kept[:100])
    assert len(cells) + len(kept) == 50_000


@pytest.mark.parametrize("error", [StoreUnavailable("throttled"), NotConfigured("no bucket")])
def test_what_cannot_be_kept_says_so_and_the_reply_is_good(
    world: World, client: TestClient, error: Exception
) -> None:
    world.taps["results"].fail("keep", error)
    puts_out(world, Display({"text/html": HTML}), Stream("stdout", "after"))

    answer = execute(client, include=["outputs"])

    note = "[text/html, 7.8 MB, was too large for the reply and could not be kept]"
    assert answer["success"] is True
    assert answer["results"][0] == {"type": "text", "content": note, "mimeType": "text/plain"}
    assert answer["outputs"][0]["data"] == {"text/plain": note}
    assert world.events().count("result.not_kept") == 1
    assert_valid(answer["outputs"])


def test_an_exception_without_bounds_has_its_say_within_them(world: World, client: TestClient) -> None:
    endless = "\x00é" * 200_000
    puts_out(world, *(Raised(endless, endless, endless) for _ in range(3)))

    answer = execute(client, include=["outputs", "model"])

    assert answer["error"].startswith("\x00é")
    assert len(answer["model"]) <= 8_000
    assert_valid(answer["outputs"])


def test_a_run_that_is_looked_at_or_stopped_is_told_within_the_same_size(world: World, client: TestClient) -> None:
    puts_out(world, Display({"text/html": HTML}))
    run_id = execute(client)["executionId"]

    replies = [client.get(f"{RUNS}/{run_id}"), client.post(f"{RUNS}/{run_id}/cancel")]

    for reply in replies:
        assert_fits(reply.content)
        assert reply.json()["result"]["results"][0]["size"] == len(HTML.encode())
    assert len(world.results.kept) == 1


def test_an_event_is_smaller_still(world: World, client: TestClient) -> None:
    puts_out(world, Display({"text/html": "é" * 400_000}), Display({"text/html": "x" * 1_200_000}))
    run_id = execute(client)["executionId"]

    frames = client.get(f"{RUNS}/{run_id}/events").content.split(b"\n\n")

    assert max(map(len, frames)) < EVENT_BYTES + 10_000
    outputs = [
        json.loads(frame.split(b"data: ")[1].split(b"\n")[0]) for frame in frames if b"event: output" in frame
    ]
    assert ["url" in output["results"][0] for output in outputs] == [False, True]


def test_a_slice_of_events_is_no_larger_than_a_reply_and_the_next_goes_on_from_there(world: World) -> None:
    app = create_app(world.wiring)

    async def in_lambda(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "aws.event": {}}, receive, send)

    puts_out(world, *(Display({"text/html": f"{number}" * 900_000}) for number in range(10)))
    with TestClient(in_lambda, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        run_id = execute(client)["executionId"]
        ids, last = [], "0"
        while True:
            reply = client.get(f"{RUNS}/{run_id}/events", headers={"Last-Event-ID": last})
            if reply.status_code == 204:
                break
            assert_fits(reply.content)
            ids.append([int(line[4:]) for line in reply.text.split("\n") if line.startswith("id: ")])
            last = str(ids[-1][-1])

    assert ids == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10], [11, 12, 13]]


# ── Whatever comes ──────────────────────────────────────────────────────────────────────────────────

MUCH = st.tuples(OUTPUTS, st.sampled_from([1, 1, 2, 400]))
LARGE = st.tuples(OUTPUTS, st.sampled_from([1, 300, 5_000, 30_000]))


def grown(output: Output, times: int) -> Output:
    """Returns the output with this much more of what it says."""
    match output:
        case Stream(name, text):
            return Stream(name, text * times)
        case Raised(name, value, traceback):
            return Raised(name, value, traceback * times)
        case Display(data, is_main_result):
            more = {mime: value * times if isinstance(value, str) else value for mime, value in data.items()}
            return Display(more, is_main_result)


@settings(max_examples=60, deadline=None)
@given(st.lists(MUCH, max_size=4), st.lists(LARGE, max_size=4), st.booleans())
def test_views_fit_whatever_there_is_and_stay_valid(
    much: list[tuple[Output, int]], large: list[tuple[Output, int]], fails: bool
) -> None:
    world = World()
    if fails:
        world.taps["results"].instead["keep"] = _unavailable
    outputs = [output for output, times in much for _ in range(times)] + [grown(*each) for each in large]
    room = 60_000

    results, cells = Fitting(world.wiring.overflow, CHAT).fit(
        [ResultSchema.of(item) for item in simple_view(outputs)], notebook_view(outputs), room
    )

    told = [result.model_dump(mode="json", by_alias=True) for result in results]
    assert weight(json.dumps([told, list(cells)], ensure_ascii=False, separators=(",", ":")).encode()) <= room
    assert_valid([dict(cell) for cell in cells])
    world.beside.shutdown()


def _unavailable(*_: object) -> None:
    raise StoreUnavailable("throttled")
