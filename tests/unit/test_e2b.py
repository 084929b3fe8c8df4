"""The adapter to E2B, held to the SDK that is installed."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import e2b
import httpx
import pytest
from e2b import exceptions as sdk
from e2b_code_interpreter import Sandbox, code_interpreter_sync

from sandkeeper.adapters import e2b as adapter
from sandkeeper.adapters.e2b import E2BAccount, E2BSandboxProvider
from sandkeeper.errors import CapacityExhausted, FileUnusable, NotConfigured, SandboxUnavailable, StoreUnavailable
from sandkeeper.model import Display, Raised, RunEnd, RunOutcome, Stream
from sandkeeper.outputs import CHART, DATA
from sandkeeper.ports import SandboxGone
from tests.factories import sandbox

ACCOUNT = E2BAccount(
    api_key="e2b_" + "0" * 40,
    template="code-interpreter-v1",
    api_url="http://api.invalid",
    sandbox_url="http://sandbox.invalid",
)


@pytest.fixture
def provider() -> E2BSandboxProvider:
    """Returns the provider, to whom E2B is wherever a test says."""
    return E2BSandboxProvider(lambda: ACCOUNT)


# ── Errors ──────────────────────────────────────────────────────────────────────────────────────────

OURS: dict[type[Exception], type[Exception]] = {
    sdk.AuthenticationException: NotConfigured,
    sdk.FileNotFoundException: SandboxGone,
    sdk.GitAuthException: NotConfigured,
    sdk.GitUpstreamException: SandboxUnavailable,
    sdk.GuestUnresponsiveException: SandboxUnavailable,
    sdk.InvalidArgumentException: SandboxUnavailable,
    sdk.NotEnoughSpaceException: FileUnusable,
    sdk.NotFoundException: SandboxGone,
    sdk.RateLimitException: CapacityExhausted,
    sdk.SandboxException: SandboxUnavailable,
    sdk.SandboxNotFoundException: SandboxGone,
    sdk.SandboxNotRunningException: SandboxGone,
    sdk.SandboxUnreachableException: SandboxUnavailable,
    sdk.ServiceBusyException: CapacityExhausted,
    sdk.TemplateException: SandboxUnavailable,
    sdk.TimeoutException: SandboxUnavailable,
    sdk.VolumeNotFoundException: SandboxGone,
    sdk.VolumePathNotFoundException: SandboxGone,
}
NOT_OF_WHAT_WE_CALL = {
    "BuildException",
    "FileUploadException",
    "SecretException",
    "SecretNotFoundException",
    "UnexpectedStatus",
    "VolumeException",
}
"""Of template builds, secrets and volumes; `UnexpectedStatus` is raised on request only."""


def sdk_errors() -> Iterator[type[Exception]]:
    """Yields every class of error that the SDK defines."""
    for module in pkgutil.walk_packages(e2b.__path__, "e2b."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, Exception) and kind.__module__ == module.name:
                yield kind


def test_the_sdk_has_no_error_that_nobody_has_thought_of() -> None:
    assert {kind.__name__ for kind in sdk_errors()} == {kind.__name__ for kind in OURS} | NOT_OF_WHAT_WE_CALL


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *((kind("secret inside"), ours) for kind, ours in OURS.items()),
        (httpx.ConnectError("refused"), SandboxUnavailable),
        (httpx.ReadTimeout("slow"), SandboxUnavailable),
        (ConnectionResetError("reset"), SandboxUnavailable),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_of_the_sdk_becomes_one_of_ours(theirs: Exception, ours: type[Exception]) -> None:
    with pytest.raises(ours) as raised, adapter._our_errors():
        raise theirs

    assert type(raised.value) is ours
    assert raised.value.__cause__ is theirs


def test_an_error_of_ours_passes_as_it_is() -> None:
    with pytest.raises(StoreUnavailable), adapter._our_errors():
        raise StoreUnavailable("the file's content broke off while it was streamed")


# ── Attaching without asking ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tokens", [{}, {"envd_token": None, "traffic_token": None}], ids=["tokens", "no tokens"])
def test_attaching_builds_what_the_sdks_connect_builds(
    monkeypatch: pytest.MonkeyPatch, tokens: dict[str, Any]
) -> None:
    ref = replace(sandbox(), **tokens)
    answer = SimpleNamespace(
        sandbox_id=ref.sandbox_id,
        sandbox_domain=ref.domain,
        envd_version=ref.envd_version,
        envd_access_token=ref.envd_token,
        traffic_access_token=ref.traffic_token,
    )
    monkeypatch.setattr("e2b.sandbox_sync.main.SandboxApi._cls_connect", lambda **_: answer)

    options = ACCOUNT.within(timedelta(seconds=adapter.TRANSFER_TIMEOUT_S))
    theirs, ours = Sandbox.connect(ref.sandbox_id, **options), adapter._attached(ref, ACCOUNT)

    assert plain(ours) == plain(theirs)


def plain(attached: Sandbox) -> dict[str, Any]:
    """Returns what tells two such objects apart."""
    api = attached._envd_api
    values = {name: value for name, value in vars(attached).items() if isinstance(value, str | None)}
    return values | {
        "attributes": sorted(vars(attached)),
        "version": str(attached._envd_version),
        "config": vars(attached.connection_config),
        "envd": (str(api.base_url), dict(api.headers)),
    }


def test_what_was_attached_once_is_kept_and_the_memory_is_bounded(
    provider: E2BSandboxProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "REMEMBERED_SANDBOXES", 2)
    first = provider._attach(sandbox("sbx1"))

    assert provider._attach(sandbox("sbx1")) is first
    for name in ("sbx2", "sbx3"):
        provider._attach(sandbox(name))
    assert provider._attach(sandbox("sbx1")) is not first


# ── Running, through the SDK, against answers of our making ─────────────────────────────────────────

Answer = Callable[[httpx.Request], httpx.Response]


def answered(text: str, status: int = 200) -> Answer:
    """Returns a sandbox that gives this answer."""
    return lambda _: httpx.Response(status, text=text)


def failing(error: Exception) -> Answer:
    """Returns a sandbox to which this happens."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise error from OSError("what the transport's own library says")

    return fail


def breaking_off(error: Exception, *lines: dict[str, Any]) -> Answer:
    """Returns a sandbox that says something, and then this happens."""

    def content() -> Iterator[bytes]:
        for line in lines:
            yield json.dumps(line).encode() + b"\n"
        raise error from OSError("what the transport's own library says")

    return lambda _: httpx.Response(200, content=content())


@pytest.fixture
def run(provider: E2BSandboxProvider, monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], RunOutcome]:
    """Returns a function that runs code in a sandbox that answers so."""
    monkeypatch.setattr(Sandbox, "is_running", lambda *_: False)

    def in_sandbox(answer: Answer) -> RunOutcome:
        monkeypatch.setattr(code_interpreter_sync, "get_transport", lambda *_, **__: httpx.MockTransport(answer))
        return provider.run(sandbox(), "x = 1", timeout=timedelta(seconds=5))

    return in_sandbox


SAID = {"type": "stdout", "text": "half", "timestamp": 1}


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (breaking_off(httpx.ReadTimeout("limit"), SAID), RunEnd.TIMEOUT),
        (breaking_off(httpx.ReadError("reset"), SAID), RunEnd.SANDBOX_LOST),
        (breaking_off(httpx.RemoteProtocolError("cut off"), SAID), RunEnd.SANDBOX_LOST),
        (answered(json.dumps(SAID) + '\n{"type": "stdout", "te'), RunEnd.SANDBOX_LOST),
    ],
    ids=["at its limit", "reset", "cut off", "cut off within a line"],
)
@pytest.mark.parametrize("still_running", [True, False])
def test_a_run_that_was_ended_gives_what_there_was(
    run: Callable[[Answer], RunOutcome],
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    end: RunEnd,
    still_running: bool,
) -> None:
    monkeypatch.setattr(Sandbox, "is_running", lambda *_: still_running)

    assert run(answer) == RunOutcome([Stream("stdout", "half")], end)


@pytest.mark.parametrize("error", [httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError])
def test_a_connection_that_breaks_before_the_first_word_may_have_run_the_code(
    run: Callable[[Answer], RunOutcome], error: type[httpx.TransportError]
) -> None:
    assert run(failing(error("closed"))) == RunOutcome([], RunEnd.SANDBOX_LOST)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (answered("no such sandbox", 404), SandboxGone),
        (answered('{"message": "The sandbox sbx1 was not found"}', 502), SandboxGone),
        (answered('{"message": "The sandbox is running but port is not open"}', 502), SandboxUnavailable),
        (answered("boom", 500), SandboxUnavailable),
        (answered("later", 503), SandboxUnavailable),
        (failing(httpx.ConnectError("refused")), SandboxUnavailable),
        (failing(httpx.ConnectTimeout("no route")), SandboxUnavailable),
        (failing(httpx.PoolTimeout("busy")), SandboxUnavailable),
        (failing(httpx.WriteTimeout("slow")), SandboxUnavailable),
    ],
    ids=["404", "gone", "no port", "500", "503", "refused", "no route", "pool", "write"],
)
def test_a_run_that_did_not_start_is_an_error(
    run: Callable[[Answer], RunOutcome], answer: Answer, error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(answer)


def test_the_sandbox_is_asked_with_its_coordinates_and_nothing_else(run: Callable[[Answer], RunOutcome]) -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, text="")

    run(answer)

    (request,) = requests
    assert request.headers["X-Access-Token"] == "envd-token"
    assert request.headers["E2B-Traffic-Access-Token"] == "traffic-token"
    assert json.loads(request.content)["code"] == "x = 1"
    assert "e2b_000" not in repr(dict(request.headers))


def test_outputs_keep_their_order_and_all_their_forms(run: Callable[[Answer], RunOutcome]) -> None:
    chart: dict[str, Any] = {
        "type": "bar",
        "title": "t",
        "elements": [],
        "x_label": None,
        "y_label": None,
        "x_unit": None,
        "y_unit": None,
    }
    lines = [
        {"type": "number_of_executions", "execution_count": 1},
        {"type": "stdout", "text": "a", "timestamp": 1},
        {"type": "stderr", "text": "b", "timestamp": 2},
        {"type": "result", "text": "Figure", "png": "aGk=", "chart": chart, "is_main_result": True},
        {"type": "result", "html": "<b>", "data": {"a": [1]}, "extra": {"application/geo+json": {}}},
        {"type": "result", "text": "", "latex": "$x$", "json": {}},
        {"type": "error", "name": "E", "value": "e", "traceback": "E: e"},
    ]

    outcome = run(answered("\n".join(json.dumps(line) for line in lines)))

    assert outcome == RunOutcome(
        [
            Stream("stdout", "a"),
            Stream("stderr", "b"),
            Display({"text/plain": "Figure", "image/png": "aGk=", CHART: chart}, is_main_result=True),
            Display({"text/html": "<b>", DATA: {"a": [1]}, "application/geo+json": {}}),
            Display({"text/plain": "", "text/latex": "$x$", "application/json": {}}),
            Raised("E", "e", "E: e"),
        ],
        RunEnd.FINISHED,
        execution_count=1,
    )


def test_every_form_of_a_result_has_a_mime_type() -> None:
    fields = set(inspect.signature(code_interpreter_sync.Result.__init__).parameters)

    assert fields - {"self", "chart", "is_main_result", "extra", "kwargs"} == set(adapter._MIME_TYPES)


def test_the_key_to_e2b_shows_nowhere() -> None:
    assert ACCOUNT.api_key not in repr(ACCOUNT)
