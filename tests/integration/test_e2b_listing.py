"""The list of sandboxes, which is asked for without E2B's SDK: over HTTP, and as the SDK would ask for it."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import e2b
import pytest

from sandkeeper.adapters import e2b as adapter
from sandkeeper.adapters import e2b_listing
from sandkeeper.adapters.e2b import E2BAccount, E2BSandboxProvider
from sandkeeper.errors import CapacityExhausted, NotConfigured, SandboxUnavailable
from sandkeeper.ports import Listed, SandboxPage
from tests.stand_in import Answer, Asked, answering

KEY = "e2b_" + "0" * 40
LISTED = {
    "sandboxID": "sbx1",
    "templateID": "code-interpreter-v1",
    "clientID": "client",
    "startedAt": "2026-01-02T03:04:05.678Z",
    "endAt": "2026-01-02T04:04:05.678Z",
    "state": "paused",
    "cpuCount": 2,
    "memoryMB": 512,
    "diskSizeMB": 512,
    "envdVersion": "0.2.3",
    "metadata": {"app": "sandkeeper", "claim": "claim-1"},
}


@dataclass
class Plane:
    """E2B's control plane: answers as a test says, the last answer over and over, and keeps what it was asked."""

    url: str = ""
    answers: deque[Answer] = field(default_factory=deque)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, target and key of each request."""
    holds: threading.Event = field(default_factory=threading.Event)
    """Set unless requests are to wait."""

    def answer(self, status: int, body: object, **headers: str) -> None:
        """Lets a coming request be answered so."""
        self.answers.append(Answer(status, body, {name.replace("_", "-"): told for name, told in headers.items()}))

    def respond(self, asked: Asked) -> Answer:
        """Returns the answer to a request."""
        self.asked.append((asked.method, asked.target, asked.headers.get("x-api-key")))
        self.holds.wait(10)
        return self.answers.popleft() if len(self.answers) > 1 else self.answers[0]

    def queries(self) -> list[dict[str, list[str]]]:
        """Returns the parameters of each request."""
        return [parse_qs(urlsplit(target).query, strict_parsing=True) for _, target, _ in self.asked]


@pytest.fixture
def plane() -> Iterator[Plane]:
    made = Plane()
    made.holds.set()
    with answering(made.respond) as made.url:
        yield made
        made.holds.set()


@pytest.fixture
def account(plane: Plane) -> E2BAccount:
    return E2BAccount(api_key=KEY, template="code-interpreter-v1", api_url=plane.url)


@pytest.fixture
def provider(account: E2BAccount) -> E2BSandboxProvider:
    return E2BSandboxProvider(lambda: account)


@pytest.mark.parametrize("token", [None, "a token/with+signs"])
@pytest.mark.parametrize(
    "metadata", [{}, {"app": "sandkeeper", "stack": "a b/ö&="}], ids=["all", "those of a stack"]
)
def test_what_is_asked_and_read_is_what_the_sdk_asks_and_reads(
    plane: Plane, account: E2BAccount, provider: E2BSandboxProvider, metadata: dict[str, str], token: str | None
) -> None:
    plane.answer(200, [LISTED, {**LISTED, "sandboxID": "sbx2", "metadata": None}], x_next_token="next")
    theirs = e2b.SandboxPaginator(
        query=e2b.SandboxQuery(metadata=metadata), limit=5, next_token=token, order="asc", **account.options
    )

    found = theirs.next_items()
    page = provider.page(metadata, limit=5, token=token)

    (their_method, their_target, their_key), (method, target, key) = plane.asked
    assert (method, key) == (their_method, their_key) == ("GET", KEY)
    assert urlsplit(target).path == urlsplit(their_target).path
    their_query, query = plane.queries()
    assert query == their_query
    assert [(each.sandbox_id, each.started_at, each.metadata) for each in page.sandboxes] == [
        (each.sandbox_id, each.started_at, each.metadata) for each in found
    ]
    assert page.token == theirs.next_token == "next"


def test_e2b_is_asked_where_the_sdk_asks_it() -> None:
    assert e2b.ConnectionConfig(api_key=KEY).api_url == e2b_listing.API_URL


def test_running_and_paused_sandboxes_are_listed_and_the_last_page_leads_no_further(
    plane: Plane, provider: E2BSandboxProvider
) -> None:
    plane.answer(200, [LISTED])

    page = provider.page({}, limit=5)

    began = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    listed = Listed(sandbox_id="sbx1", started_at=began, metadata={"app": "sandkeeper", "claim": "claim-1"})
    assert page == SandboxPage([listed], None)
    (query,) = plane.queries()
    assert "state" not in query, "E2B lists both unless one is asked for"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, NotConfigured),
        (429, CapacityExhausted),
        (503, CapacityExhausted),
        (403, SandboxUnavailable),
        (500, SandboxUnavailable),
        (302, SandboxUnavailable),
    ],
)
def test_what_is_refused_becomes_one_of_our_errors(
    plane: Plane, provider: E2BSandboxProvider, status: int, error: type[Exception]
) -> None:
    plane.answer(status, {"code": status, "message": "no"}, location="/elsewhere")

    with pytest.raises(error):
        provider.page({}, limit=5)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_answer_that_says_later_is_asked_for_again(
    plane: Plane, provider: E2BSandboxProvider, status: int
) -> None:
    plane.answer(status, {}, retry_after="3600")
    plane.answer(status, {})
    plane.answer(200, [LISTED])

    assert len(provider.page({}, limit=5).sandboxes) == 1
    assert len(plane.asked) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff",
        {"a": 1},
        None,
        [1],
        [{}],
        [LISTED | {"startedAt": "soon"}],
        [LISTED | {"startedAt": 7}],
    ],
    ids=str,
)
def test_an_answer_that_is_none_is_not_taken_for_one(
    plane: Plane, provider: E2BSandboxProvider, body: object
) -> None:
    plane.answer(200, body)

    with pytest.raises(SandboxUnavailable, match="cannot be listed"):
        provider.page({}, limit=5)


def test_a_plane_that_does_not_answer_is_waited_for_so_long_and_asked_once(
    plane: Plane, provider: E2BSandboxProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "CONTROL_TIMEOUT_S", 0.3)
    plane.holds.clear()
    plane.answer(200, [])

    with pytest.raises(SandboxUnavailable, match="Timeout"):
        provider.page({}, limit=5)
    assert len(plane.asked) == 1


def test_where_nobody_listens_nothing_is_listed() -> None:
    account = E2BAccount(api_key=KEY, template="t", api_url="http://127.0.0.1:9")

    with pytest.raises(SandboxUnavailable):
        E2BSandboxProvider(lambda: account).page({}, limit=5)
