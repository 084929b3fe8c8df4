"""What the Python client tells of a run while it goes on: every event, and each of them once."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from sandkeeper_client import (
    Accepted,
    AsyncSandkeeper,
    ConnectionFailed,
    Ended,
    Event,
    NotFound,
    Output,
    Retries,
    Sandkeeper,
    Started,
    UnexpectedReply,
)
from tests.client_service import (
    EXECUTE,
    RUNS,
    TOKEN,
    URL,
    Content,
    Service,
    accepted,
    ended,
    event,
    ok,
    printed,
    problem,
    progress,
    run_told,
    stream,
    text,
)

BEGUN = [
    event(1, "accepted", executionId="run", limitMs=60_000),
    event(2, "started", stateReset=False, reason=None),
]


def followed(service: Service, **options: Any) -> list[Event]:
    """Returns the run's events."""
    events: list[Event] = service.chat_does(lambda chat: chat.execution("run").events(**options))
    return events


def last_ids(service: Service) -> list[str | None]:
    """Returns from where on each connection was asked for."""
    return [request.headers.get("last-event-id") for request in service.heard]


def test_events_have_types_and_come_in_order(service: Service) -> None:
    service.will(stream(*BEGUN, printed(3, "a\n"), ended(4)))

    events = followed(service)

    assert [type(each) for each in events] == [Accepted, Started, Output, Ended]
    assert [each.id for each in events] == ["1", "2", "3", "4"]
    assert (events[2].text, events[3].success) == ("a\n", True)  # type: ignore[attr-defined]
    assert service.heard[0].headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("cut_at", range(len(printed(3, "a\n")) + 1))
def test_wherever_a_connection_breaks_no_event_is_lost_and_none_comes_twice(service: Service, cut_at: int) -> None:
    third, rest = printed(3, "a\n"), [printed(4, "b\n"), ended(5)]
    is_whole = cut_at == len(third)
    service.will(stream(*BEGUN, third[:cut_at], breaks=True), stream(*([] if is_whole else [third]), *rest))

    events = followed(service)

    assert [each.id for each in events] == ["1", "2", "3", "4", "5"]
    assert last_ids(service) == [None, "3" if is_whole else "2"]


def test_connections_that_end_before_the_run_are_followed_by_others(service: Service) -> None:
    service.will(stream(*BEGUN), stream(b":\n"), httpx.ConnectError, httpx.Response(503), stream(ended(3)))
    assert [each.id for each in followed(service)] == ["1", "2", "3"]
    assert last_ids(service) == [None, "2", "2", "2", "2"]


def test_a_run_is_followed_from_any_event_on(service: Service) -> None:
    service.will(stream(ended(4)), httpx.Response(204))
    assert [each.id for each in followed(service, after="3")] == ["4"]
    assert followed(service, after="4") == []
    assert last_ids(service) == ["3", "4"]


def test_output_may_hold_what_others_take_for_the_end_of_a_line(service: Service) -> None:
    odd = "a\u2028b\x85c\x0bd\r\n"
    service.will(stream(printed(1, odd), ended(2)))
    assert followed(service)[0].text == odd  # type: ignore[attr-defined]


def test_an_event_of_a_newer_service_is_told_as_it_is(service: Service) -> None:
    service.will(stream(event(1, "warmed", degrees=40), ended(2)))
    first = followed(service)[0]
    assert (type(first), first.name, first.raw["degrees"]) == (Event, "warmed", 40)


def test_progress_starts_the_attempts_anew_and_without_it_they_end(service: Service) -> None:
    service.retries = Retries(attempts=2)
    service.will(*[stream(printed(number, "."), breaks=True) for number in range(1, 6)], stream(ended(6)))
    assert len(followed(service)) == 6

    service.will(stream(breaks=True), stream(breaks=True))
    with pytest.raises(ConnectionFailed, match="in 2 attempts"):
        followed(service)


def test_a_run_that_is_not_there_and_a_page_that_is_no_stream_are_told(service: Service) -> None:
    service.will(problem(404, "execution-not-found"), httpx.Response(200, html="<p>"))
    with pytest.raises(NotFound, match="execution-not-found"):
        followed(service)
    with pytest.raises(UnexpectedReply, match="text/html"):
        followed(service)


@pytest.mark.parametrize("data", ["{", "[1]", '{"at": "soon"}'])
def test_an_event_that_is_none_is_told(service: Service, data: str) -> None:
    service.will(stream(f"id: 1\nevent: output\ndata: {data}\n\n".encode()))
    with pytest.raises(UnexpectedReply, match="not as documented"):
        followed(service)


# ── Heard while it runs ─────────────────────────────────────────────────────────────────────────────────


def test_run_tells_output_as_it_comes_and_gives_the_result(service: Service) -> None:
    heard: list[str] = []
    service.will(accepted(), stream(*BEGUN, printed(3, "a\n"), breaks=True), stream(printed(4, "b\n"), ended(5)))
    service.will(progress(run_told(text("a\nb\n"))))

    run = service.runs(on_output=lambda output: heard.append(output.text))

    assert heard == ["a\n", "b\n"]
    assert run.text == "a\nb\n"
    assert service.bodies()[0]["mode"] == "async"
    assert service.asked[-1] == f"GET {RUNS}/run"


def test_of_a_run_that_is_known_by_its_key_the_output_is_told_as_well(service: Service) -> None:
    heard: list[str] = []
    service.will(ok(run_told(text("a"))), stream(printed(1, "a"), ended(2)))
    assert service.runs(on_output=lambda output: heard.append(output.text)).success
    assert heard == ["a"]
    assert service.asked == [f"POST {EXECUTE}", f"GET {RUNS}/run/events"]


def test_whoever_awaits_may_await_the_output_too() -> None:
    service, heard = Service("awaits"), list[str]()
    service.will(accepted(), stream(printed(1, "a"), ended(2)), progress(run_told()))

    async def hear(output: Output) -> None:
        await asyncio.sleep(0)
        heard.append(output.text)

    service.runs(on_output=hear)
    assert heard == ["a"]


def test_a_blocking_client_says_that_it_takes_no_async_function() -> None:
    service = Service("waits")
    service.will(accepted(), stream(printed(1, "a"), ended(2)))

    async def hear(output: Output) -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="give no `async` function"):
        service.runs(on_output=hear)


def test_whoever_has_heard_enough_leaves_no_connection() -> None:
    """Also within a running loop, which would see to a forgotten generator only later."""
    content = Content(*BEGUN, printed(3, "a"))
    reply = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=content)

    async def cell() -> None:
        http = httpx.Client(transport=httpx.MockTransport(lambda _: reply))
        with Sandkeeper(URL, TOKEN, http=http) as service:
            events = service.chat("c").execution("run").events()
            assert next(events).name == "accepted"
            assert not content.is_released
            del events
            assert content.is_released

    asyncio.run(cell())


def test_a_blocking_client_works_within_a_running_loop() -> None:
    """As in Jupyter, whose cells run in one."""
    service = Service("waits")
    service.will(accepted(), stream(printed(1, "a"), ended(2)), progress(run_told(text("a"))))

    async def cell() -> str:
        heard: list[str] = []
        run = service.runs(on_output=lambda output: heard.append(output.text))
        return "".join([*heard, run.text])

    assert asyncio.run(cell()) == "aa"


def test_an_awaiting_client_leaves_the_loop_to_others() -> None:
    """Two calls of one client are under way at once: each is answered only when both have come."""
    both = asyncio.Event()
    begun: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        begun.append(str(request.url))
        if len(begun) == 2:
            both.set()
        await both.wait()
        return ok(run_told())

    async def main() -> None:
        http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        async with AsyncSandkeeper(URL, TOKEN, http=http) as service:
            call: Callable[[str], Any] = lambda name: service.chat(name).run("1")  # noqa: E731
            await asyncio.gather(call("a"), call("b"))

    asyncio.run(main())
    assert len(begun) == 2
