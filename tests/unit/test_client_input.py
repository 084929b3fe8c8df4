"""What the Python client is given, what it is told, and what it keeps to itself."""

import dataclasses
import inspect
import json
import traceback
from pathlib import Path
from typing import Any

import httpx
import pytest

import sandkeeper_client
from sandkeeper.http.problems import STATUS_AND_SLUG
from sandkeeper_client import (
    AsyncChat,
    AsyncExecution,
    AsyncNotebook,
    AsyncSandkeeper,
    Chat,
    Execution,
    InvalidInput,
    Notebook,
    Problem,
    RunFailed,
    Sandkeeper,
    SandkeeperError,
    ServiceFailed,
    Unauthenticated,
    Unavailable,
    UnexpectedReply,
    errors,
    replies,
    runs,
)
from sandkeeper_client.values import Value
from tests.client_service import TOKEN, URL, Service, ok, problem, run_told

CLIENTS = [Sandkeeper, AsyncSandkeeper]
SCHEMAS = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())["components"]["schemas"]


# ── Given ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("client", CLIENTS)
def test_the_environment_says_where_the_service_is_and_who_is_calling(
    client: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDKEEPER_URL", "https://elsewhere.test")
    monkeypatch.setenv("SANDKEEPER_TOKEN", TOKEN)
    assert repr(client()) == f"{client.__name__}('https://elsewhere.test')"
    assert repr(client(URL)) == f"{client.__name__}('{URL}')"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("base_url", "token", "said"),
    [
        (None, TOKEN, "SANDKEEPER_URL"),
        ("", TOKEN, "SANDKEEPER_URL"),
        (URL, None, "SANDKEEPER_TOKEN"),
        (URL, "", "SANDKEEPER_TOKEN"),
        (URL, "sk_with blank", "copy it anew"),
        (URL, "sk_zeile\n", "copy it anew"),
        ("api.test", TOKEN, "not of the form https://"),
        ("ftp://api.test", TOKEN, "not of the form https://"),
        ("https://me:secret@api.test", TOKEN, "credentials go into token"),
        ("https://api.test?token=secret", TOKEN, "not of the form https://"),
        ("https://api.test:port", TOKEN, "no address"),
    ],
)
def test_what_cannot_work_is_refused_with_the_fix_and_without_secrets(
    client: type[Any], base_url: str | None, token: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SANDKEEPER_URL", raising=False)
    monkeypatch.delenv("SANDKEEPER_TOKEN", raising=False)
    with pytest.raises(InvalidInput, match=said) as raised:
        client(base_url, token)
    assert "secret" not in str(raised.value)
    assert "sk_" not in str(raised.value)


@pytest.mark.parametrize("chat_id", ["", "a/b", "..", ".", "a b", "a" * 129, "über", "a\n"])
def test_a_chat_id_that_is_none_is_refused_before_anything_is_sent(service: Service, chat_id: str) -> None:
    with pytest.raises(InvalidInput, match="chat id"):
        service.does(lambda client: client.chat(chat_id))
    assert service.heard == []


@pytest.mark.parametrize("name", ["../../sessions", "", ".."])
def test_an_id_leads_nowhere_else(service: Service, name: str) -> None:
    acts: list[Any] = [
        lambda chat: chat.execution(name),
        lambda chat: chat.file(name),
        lambda chat: chat.delete_file(name),
        lambda chat: chat.download(name),
    ]
    for act in acts:
        with pytest.raises(InvalidInput, match="id"):
            service.chat_does(act)
    assert service.heard == []


def test_any_chat_id_of_the_api_is_part_of_the_path(service: Service) -> None:
    service.will(ok({"files": []}))
    service.does(lambda client: client.chat("a:b.c_d-1").files())
    assert service.heard[0].url.raw_path == b"/stage/api/chats/a:b.c_d-1/files"


@pytest.mark.parametrize(
    "act", [lambda chat: chat.run("1", timeot=5), lambda chat: chat.upload(b"1", name="a", replaces=True)]
)
def test_a_slip_of_the_pen_is_no_option(service: Service, act: Any) -> None:
    with pytest.raises(TypeError, match=r"'timeot' is none of timeout, |'replaces' is none of name, "):
        service.chat_does(act)
    assert service.heard == []


@pytest.mark.parametrize("key", ["", "a b", "a\n", "ž", "a" * 256])
def test_a_key_that_is_none_is_refused_before_anything_is_sent(service: Service, key: str) -> None:
    with pytest.raises(InvalidInput, match="idempotency key"):
        service.runs(idempotency_key=key)
    assert service.heard == []


# ── The token ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_redirect_is_not_followed_with_the_token(service: Service) -> None:
    service.will(httpx.Response(307, headers={"Location": "https://thief.test/"}))
    with pytest.raises(UnexpectedReply, match=r"307 .* is there a Sandkeeper at https://api\.test"):
        service.runs()
    assert len(service.heard) == 1


def test_a_clients_own_credentials_go_nowhere() -> None:
    """A client that was given for its proxies, say, may have what it sends to everybody."""
    heard: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request.headers.get("authorization"))
        return httpx.Response(302, headers={"Location": "https://bucket.test/a"}) if len(heard) == 1 else ok({})

    http = httpx.Client(
        transport=httpx.MockTransport(answer), auth=("me", "secret"), headers={"Authorization": "Basic secret"}
    )
    with Sandkeeper(URL, TOKEN, http=http) as service:
        service.chat("c").download("run-0")
    assert heard == [f"Bearer {TOKEN}", None]


@pytest.mark.parametrize("failure", [httpx.ReadError, lambda: problem(401, "unauthenticated"), lambda: ok([])])
def test_no_error_tells_the_token(service: Service, failure: Any) -> None:
    service.retries = sandkeeper_client.Retries(attempts=1)
    service.will(failure)
    with pytest.raises(SandkeeperError) as raised:
        service.runs()
    assert service.heard[0].headers["authorization"] == f"Bearer {TOKEN}"
    told = "".join(traceback.format_exception(raised.value)) + repr(vars(raised.value))
    assert TOKEN not in told


@pytest.mark.parametrize("act", [lambda chat: chat, lambda chat: chat.execution("run")])
def test_neither_does_a_repr(service: Service, act: Any) -> None:
    made = service.chat_does(act)
    assert TOKEN not in repr(made)
    assert made.id in repr(made)


# ── Told ────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_problem_of_the_api_is_told_in_its_own_words() -> None:
    for status, slug in STATUS_AND_SLUG.values():
        raised = Problem.of(problem(status, slug, retry_after="3"))
        assert (raised.status, raised.slug, raised.detail) == (status, slug, f"it is {slug}")
        assert (raised.request_id, raised.retry_after) == ("req-1", 3)
        assert type(raised) is not Problem or status in (412, 428)
    assert set(errors.OF_SLUG) - {slug for _, slug in STATUS_AND_SLUG.values()} == {"internal-error"}


@pytest.mark.parametrize(
    ("reply", "kind", "detail"),
    [
        (httpx.Response(401), Unauthenticated, "Unauthorized"),
        (httpx.Response(503, json={"message": "Service Unavailable"}), Unavailable, "Service Unavailable"),
        (httpx.Response(502, html="<h1>Bad"), Unavailable, "<h1>Bad"),
        (httpx.Response(500, json=[1]), ServiceFailed, "[1]"),
        (httpx.Response(418, json={"detail": "tea", "errors": ["odd"]}), Problem, "tea"),
    ],
)
def test_what_others_on_the_way_say_is_told_as_well(
    reply: httpx.Response, kind: type[Problem], detail: str
) -> None:
    raised = Problem.of(reply)
    assert (type(raised), raised.detail, raised.slug) == (kind, detail, "")


@pytest.mark.parametrize("told", [None, [], "text", 1, {}, {"executionId": "run", "success": True}])
def test_an_answer_that_is_none_of_this_api_is_told_as_such(service: Service, told: Any) -> None:
    service.will(ok(told))
    with pytest.raises(UnexpectedReply):
        service.runs()


def test_a_page_that_is_no_json_is_told_as_such(service: Service) -> None:
    service.will(httpx.Response(200, html="<p>welcome"))
    with pytest.raises(UnexpectedReply, match="200 with text/html"):
        service.does(lambda client: client.health())


def test_what_a_newer_service_tells_besides_breaks_nothing_and_is_kept(service: Service) -> None:
    told = run_told({"type": "hologram", "mimeType": "x/y", "content": 1, "depth": 3}, colour="blue")
    service.will(ok(told))
    run = service.runs()
    assert (run.raw["colour"], run.results[0].raw["depth"], run.results[0].type) == ("blue", 3, "hologram")
    assert run == runs.Run.of({**told, "colour": "red"})


def test_a_program_that_raises_is_a_result_and_an_exception_for_those_who_want_one(service: Service) -> None:
    detail = {
        "kind": "user_code",
        "name": "NameError",
        "value": "x",
        "traceback": None,
        "retryable": False,
        "hint": "",
    }
    service.will(ok(run_told(success=False, error="NameError: x", errorDetail=detail)), ok(run_told()))
    failed, fine = service.runs(), service.runs()
    assert (failed.success, failed.error, failed.error_detail.kind) == (False, "NameError: x", "user_code")
    with pytest.raises(RunFailed, match="NameError: x") as raised:
        failed.raise_for_error()
    assert raised.value.run is failed
    assert fine.raise_for_error() is fine


# ── As documented, and the same in both forms ───────────────────────────────────────────────────────────

DOCUMENTED: list[tuple[type[Value], list[str]]] = [
    (runs.Run, ["ExecuteReply"]),
    (runs.Result, ["ResultSchema", "LinkedResult"]),
    (runs.ErrorDetail, ["ErrorDetail"]),
    (runs.SessionInRun, ["SessionSchema"]),
    (runs.Timings, ["TimingsSchema"]),
    (runs.Artifact, ["ArtifactSchema", "ListedArtifact"]),
    (runs.Progress, ["ExecutionReply"]),
    (runs.PastRun, ["PastExecution"]),
    (replies.Status, ["StatusReply"]),
    (replies.Session, ["LiveSession", "SessionDetail"]),
    (replies.Package, ["Package", "InstalledPackage"]),
    (replies.Installed, ["PackagesReply"]),
    (replies.Interrupted, ["Interrupted"]),
    (replies.Column, ["ColumnSchema", "ColumnInContext"]),
    (replies.Table, ["TableSchema", "TableInContext"]),
    (replies.File, ["FileSchema"]),
    (replies.FileList, ["FileList"]),
    (replies.RegisteredFile, ["RegisteredFile"]),
    (replies.Upload, ["UploadSchema"]),
    (replies.Outlook, ["OutlookSchema"]),
    (replies.FileInContext, ["FileInContext"]),
    (replies.Packages, ["InstalledSchema"]),
    (replies.Limits, ["LimitsSchema"]),
    (replies.Context, ["ContextReply"]),
    (replies.Health, ["Health"]),
]


@pytest.mark.parametrize(("value", "names"), DOCUMENTED, ids=lambda each: getattr(each, "__name__", ""))
def test_a_value_has_the_documented_fields_and_no_others(value: type[Value], names: list[str]) -> None:
    """One that stands for several schemas may do without those that not all of them have."""
    documented = [set(SCHEMAS[name]["properties"]) for name in names]
    known = {_camel(each.name): each for each in dataclasses.fields(value) if each.name != "raw"}
    needed = {name for name, each in known.items() if each.default is dataclasses.MISSING}
    assert set(known) == set.union(*documented)
    assert needed <= set.intersection(*documented)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


@pytest.mark.parametrize(
    ("waiting", "awaiting"),
    [
        (Sandkeeper, AsyncSandkeeper),
        (Chat, AsyncChat),
        (Execution, AsyncExecution),
        (Notebook, AsyncNotebook),
    ],
)
def test_both_forms_have_the_same_methods_with_the_same_words(waiting: type[Any], awaiting: type[Any]) -> None:
    def methods(form: type[Any], renamed: str = "") -> dict[str, tuple[list[str], str | None]]:
        return {
            name.removeprefix(renamed): (
                list(inspect.signature(method).parameters),
                inspect.getdoc(method),
            )
            for name, method in inspect.getmembers(form, inspect.isfunction)
            if not name.startswith("_")
        }

    renamed = "a" if awaiting is AsyncSandkeeper else ""
    assert methods(waiting) == methods(awaiting, renamed)


def test_all_that_is_offered_is_there() -> None:
    assert sandkeeper_client.__all__ == sorted(sandkeeper_client.__all__)
    raised = {
        name for name, what in vars(errors).items() if inspect.isclass(what) and what.__module__ == errors.__name__
    }
    assert raised <= set(sandkeeper_client.__all__)
