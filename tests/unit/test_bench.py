"""Benchmarks: the relay that delays, and the page that they are written on."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import h11
import pytest

from bench.__main__ import CHAPTERS, main
from bench.chapters import Chapter, Table, page
from bench.delays import HEARD, Delays, Heard, Purpose, Relay, Streams, purpose_of
from bench.samples import Sample, in_turn

BODY = bytes(range(256)) * 1000
DYNAMODB = {"X-Amz-Target": "DynamoDB_20120810.UpdateItem"}
SIGNED = "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/s3/aws4_request, Signature=0"
IN_SANDBOX = {"E2b-Sandbox-Id": "i1", "E2b-Sandbox-Port": "49983"}


# ── The relay ───────────────────────────────────────────────────────────────────────────────────────


def request(method: str, target: str, **headers: str) -> h11.Request:
    return h11.Request(method=method, target=target, headers=[("Host", "h"), *headers.items()])


@pytest.mark.parametrize(
    ("asked", "purpose"),
    [
        (request("POST", "/", **DYNAMODB), ("DynamoDB", "UpdateItem")),
        (request("GET", "/bucket/key", Authorization=SIGNED), ("S3", "read")),
        (request("PUT", "/bucket/key?X-Amz-Credential=a%2F1%2Fr%2Fs3%2Faws4_request"), ("S3", "write")),
        (request("POST", "/sandboxes"), ("control plane", "create")),
        (request("POST", "/v2/sandboxes/i1/connect"), ("control plane", "connect")),
        (request("DELETE", "/sandboxes/i1"), ("control plane", "kill")),
        (request("POST", "/execute", **IN_SANDBOX), ("sandbox", "run")),
        (request("POST", "/runs/1?after=0", **IN_SANDBOX), ("sandbox", "run")),
        (request("GET", "/runs/1?after=0", **IN_SANDBOX), ("sandbox", "follow")),
        (request("POST", "/runs/1/cancel", **IN_SANDBOX), ("sandbox", "POST /runs/1/cancel")),
        (request("POST", "/files?path=a", **IN_SANDBOX), ("sandbox", "write file")),
    ],
)
def test_a_request_tells_whom_it_is_for(asked: h11.Request, purpose: tuple[str, str]) -> None:
    assert purpose_of(asked) == purpose


def test_each_service_has_its_delay_and_creating_and_resuming_have_their_own() -> None:
    delays = Delays(e2b_ms=1, create_ms=2, resume_ms=3, s3_ms=4, dynamodb_ms=5)

    asked = [
        Purpose("sandbox", "run"),
        Purpose("control plane", "kill"),
        Purpose("control plane", "create"),
        Purpose("control plane", "connect"),
        Purpose("S3", "read"),
        Purpose("DynamoDB", "Query"),
    ]
    assert [delays.of(each) for each in asked] == [1, 1, 2, 3, 4, 5]


class Origin:
    """A server behind the relay: it keeps what it was sent, and answers with the same in two chunks."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self.answers_of_a_connection = 100
        self.more = asyncio.Event()
        """The second chunk waits for it."""
        self.more.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        answered = 0
        while answered < self.answers_of_a_connection and (head := await _head(reader)):
            answered += 1
            self.heads.append(head)
            body = await reader.readexactly(_length(head))
            writer.write(b"HTTP/1.1 200 Fine\r\nX-Of: origin\r\nTransfer-Encoding: chunked\r\n\r\n")
            half = len(body) // 2
            for part in (body[:half], body[half:]):
                if part:
                    writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                await writer.drain()
                await self.more.wait()
            writer.write(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _length(head: bytes) -> int:
    lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
    return next((int(value) for name, _, value in lines if name == b"content-length"), 0)


class Caller:
    """A client of the relay on one connection."""

    def __init__(self, streams: Streams) -> None:
        self.http = h11.Connection(h11.CLIENT)
        self._reader, self._writer = streams

    async def send(self, method: str, target: str, body: bytes = b"", **headers: str) -> None:
        if self.http.our_state is h11.DONE:
            self.http.start_next_cycle()
        asked = request(method, target, **{"Content-Length": str(len(body))}, **headers)
        for event in (asked, h11.Data(data=body), h11.EndOfMessage()):
            self._writer.write(self.http.send(event) or b"")
        await self._writer.drain()

    async def next(self) -> object:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self._reader.read(65_536))
        return event

    async def answer(self) -> tuple[h11.Response, bytes]:
        head = await self.next()
        assert isinstance(head, h11.Response)
        content = b""
        while isinstance(event := await self.next(), h11.Data):
            content += event.data
        assert isinstance(event, h11.EndOfMessage)
        return head, content

    async def call(self, method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
        await self.send(method, target, body, **headers)
        return (await self.answer())[1]

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


Scene = Callable[[Caller, Origin], Awaitable[None]]


def relayed(folder: Path, scene: Scene, delays: Delays | None = None) -> list[float]:
    """Plays a scene between a client and a server; returns for how long the relay between them has slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def play() -> None:
        origin = Origin()
        there, here = str(folder / "there"), str(folder / "here")
        relay = Relay(lambda: asyncio.open_unix_connection(there), delays or Delays(), [], sleep)
        async with (
            await asyncio.start_unix_server(origin.serve, there),
            await asyncio.start_unix_server(relay.serve, here),
        ):
            caller = Caller(await asyncio.open_unix_connection(here))
            await scene(caller, origin)
            await caller.close()
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(play())
    return slept


def test_bodies_pass_unchanged_both_ways_on_one_kept_connection(tmp_path: Path) -> None:
    async def scene(caller: Caller, origin: Origin) -> None:
        assert await caller.call("POST", "/a?b=%2F", BODY, Cookie="a=1") == BODY
        packed = gzip.compress(BODY)
        assert await caller.call("PUT", "/b", packed) == packed
        assert await caller.call("GET", "/c") == b""
        assert [head.split(b" HTTP")[0] for head in origin.heads] == [b"POST /a?b=%2F", b"PUT /b", b"GET /c"]
        assert b"Cookie: a=1" in origin.heads[0]
        assert origin.connections == 1

    relayed(tmp_path, scene)


def test_an_answer_is_passed_on_while_it_is_made(tmp_path: Path) -> None:
    async def scene(caller: Caller, origin: Origin) -> None:
        origin.more.clear()
        await caller.send("POST", "/execute", b"12345678", **IN_SANDBOX)

        head, first = await caller.next(), await caller.next()

        assert isinstance(head, h11.Response)
        assert dict(head.headers)[b"x-of"] == b"origin"
        assert isinstance(first, h11.Data)
        assert bytes(first.data) == b"1234"
        origin.more.set()
        second = await caller.next()
        assert isinstance(second, h11.Data)
        assert bytes(second.data) == b"5678"
        await caller.next()

    relayed(tmp_path, scene)


def test_it_tells_once_what_has_passed(tmp_path: Path) -> None:
    async def scene(caller: Caller, origin: Origin) -> None:
        await caller.call("POST", "/", b"{}", **DYNAMODB)
        await caller.call("POST", "/sandboxes", b"{}")

        told = [Heard(**each) for each in json.loads(await caller.call("GET", HEARD))]

        assert [(each.service, each.what) for each in told] == [
            ("DynamoDB", "UpdateItem"),
            ("control plane", "create"),
        ]
        assert told[0].begun <= told[0].ended <= told[1].begun
        assert json.loads(await caller.call("GET", HEARD)) == []

    relayed(tmp_path, scene)


def test_each_request_is_delayed_also_on_a_kept_connection(tmp_path: Path) -> None:
    async def scene(caller: Caller, origin: Origin) -> None:
        for _ in range(2):
            await caller.call("POST", "/", b"{}", **DYNAMODB)
        await caller.call("POST", "/sandboxes", b"{}")
        await caller.call("GET", HEARD)

    assert relayed(tmp_path, scene, Delays(dynamodb_ms=5, create_ms=450)) == [0.005, 0.005, 0.45]


def test_who_waits_for_100_continue_is_told_to_go_on(tmp_path: Path) -> None:
    async def scene(caller: Caller, origin: Origin) -> None:
        await caller.send("PUT", "/a", b"1234", Expect="100-continue")
        assert isinstance(await caller.next(), h11.InformationalResponse)
        assert (await caller.answer())[1] == b"1234"
        assert b"100-continue" not in origin.heads[0]

    relayed(tmp_path, scene)


def test_the_client_keeps_its_connection_when_the_server_closes_its_own_after_an_answer(tmp_path: Path) -> None:
    async def scene(caller: Caller, origin: Origin) -> None:
        origin.answers_of_a_connection = 1
        assert await caller.call("POST", "/a", b"1234") == b"1234"
        await asyncio.sleep(0.05)  # so that the relay hears of the end
        assert await caller.call("POST", "/b", b"5678") == b"5678"
        assert origin.connections == 2

    relayed(tmp_path, scene)


def test_where_there_is_no_answer_the_connection_ends(tmp_path: Path) -> None:
    async def scene(caller: Caller, origin: Origin) -> None:
        origin.answers_of_a_connection = 0
        await caller.send("POST", "/a", b"1234")
        with pytest.raises(h11.RemoteProtocolError):
            await caller.answer()

    relayed(tmp_path, scene)


# ── Samples, chapters, the page ─────────────────────────────────────────────────────────────────────


def test_cases_are_taken_in_turn_and_only_the_work_is_heeded() -> None:
    played: list[str] = []

    def case(name: str) -> Callable[[], Iterator[Callable[[], None]]]:
        def made() -> Iterator[Callable[[], None]]:
            played.append(f"prepare {name}")
            yield lambda: played.append(name)
            played.append(f"clear {name}")

        return made

    ours, theirs = in_turn(2, {name: contextmanager(case(name)) for name in ("a", "b")}, unheeded=1)

    assert played == [step for _ in range(3) for n in "ab" for step in (f"prepare {n}", n, f"clear {n}")]
    assert (ours.name, theirs.name) == ("a", "b")
    assert len(ours.durations) == len(theirs.durations) == 2


def a_page(rows: Sequence[Sequence[str]], promises: dict[str, bool]) -> str:
    table = Table(("what", "n"), rows)
    return page([Chapter("Title", "Method.", [table], promises)], datetime(2026, 1, 2, tzinfo=UTC))


def test_the_page_escapes_cells_and_aligns_figures() -> None:
    written = a_page([["a|b <i> & c", "1"]], {})

    assert "| what | n |\n| --- | ---: |\n| a\\|b &lt;i&gt; &amp; c | 1 |" in written
    assert "on 2026-01-02" in written
    assert "## Title\n\nMethod." in written


def test_the_page_tells_broken_promises() -> None:
    written = a_page([], {"it is quick": True, "it is free": False})

    assert "- holds: it is quick\n- **broken**: it is free" in written


def test_percentiles_lie_between_what_was_measured() -> None:
    sample = Sample("x", [1.0, 2.0, 3.0])
    assert [sample.median, sample.quantile(99)] == pytest.approx([2.0, 2.98])


def test_an_unknown_chapter_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["calls", "speed"])

    told = capsys.readouterr().err
    assert "there is no chapter speed" in told
    assert all(name in told for name in CHAPTERS)
