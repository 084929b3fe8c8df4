"""The adapter to E2B's control plane, request by request; and how it gets at a sandbox's runner."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandkeeper.adapters import e2b as adapter
from sandkeeper.adapters.e2b import CONTROL_TIMEOUT_S, E2BAccount, E2BSandboxProvider
from sandkeeper.adapters.runner.package import start_command
from sandkeeper.errors import CapacityExhausted, NotConfigured, SandboxUnavailable
from sandkeeper.model import SandboxRef
from sandkeeper.ports import SandboxGone, SandboxSpec
from tests.factories import sandbox
from tests.world import World

KEY = "e2b_" + "0" * 40
WITHIN = timedelta(seconds=7)
MINUTE = timedelta(minutes=1)
INFO = {
    "sandboxID": "sbx1",
    "templateID": "code-interpreter-v1",
    "clientID": "client",
    "envdVersion": "0.2.3",
    "envdAccessToken": "envd",
    "trafficAccessToken": "traffic",
    "domain": "sandboxes.invalid",
}
SPEC = SandboxSpec(
    idempotency_key="key-1",
    lifetime=timedelta(seconds=330),
    pauses=True,
    metadata={"app": "sandkeeper", "stack": "test"},
)


class Plane:
    """E2B's control plane: answers as a test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answer = httpx.Response(500)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer

    @property
    def request(self) -> httpx.Request:
        """The one request that there was."""
        (request,) = self.requests
        return request

    @property
    def body(self) -> dict[str, Any]:
        """What that one said."""
        said: dict[str, Any] = json.loads(self.request.content)
        return said


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Plane:
    """Returns the control plane that the SDK talks to."""
    made = Plane()
    monkeypatch.setattr("time.sleep", lambda _: None)  # the SDK's own retries of busy answers
    transport = httpx.MockTransport(made)
    monkeypatch.setattr("e2b.api.client_sync.get_transport", lambda *_, **__: transport)
    return made


@pytest.fixture
def provider() -> E2BSandboxProvider:
    """Returns the provider."""
    account = E2BAccount(
        api_key=KEY,
        template="code-interpreter-v1",
        api_url="http://api.invalid",
        sandbox_url="http://sandbox.invalid",
    )
    return E2BSandboxProvider(lambda: account)


def limit_of(request: httpx.Request) -> timedelta:
    """Returns how long the request may take: the SDK's transport adds these limits up."""
    limits = request.extensions["timeout"]
    return timedelta(seconds=limits["read"] + limits["write"])


# ── Creating ────────────────────────────────────────────────────────────────────────────────────────


def test_a_sandbox_is_asked_for_by_its_template_its_key_and_our_own_settings(
    plane: Plane, provider: E2BSandboxProvider
) -> None:
    plane.answer = httpx.Response(201, json=INFO)

    made = provider.create(SPEC, within=WITHIN)

    assert made == SandboxRef(
        sandbox_id="sbx1",
        domain="sandboxes.invalid",
        envd_version="0.2.3",
        envd_token="envd",
        traffic_token="traffic",
    )
    assert plane.body["templateID"] == "code-interpreter-v1"
    assert plane.body["timeout"] == 330
    assert plane.body["metadata"] == SPEC.metadata
    assert plane.body["network"] == {"allowPublicTraffic": False}, "nobody else reaches what runs there"
    assert plane.request.headers["X-API-Key"] == KEY
    assert plane.request.headers["Idempotency-Key"].startswith("key-1-")
    assert limit_of(plane.request) == WITHIN


@pytest.mark.parametrize("pauses", [True, False])
def test_at_its_deadline_a_sandbox_is_paused_or_else_killed(
    plane: Plane, provider: E2BSandboxProvider, pauses: bool
) -> None:
    plane.answer = httpx.Response(201, json=INFO)

    provider.create(replace(SPEC, pauses=pauses), within=WITHIN)

    assert plane.body["autoPause"] is pauses


def key_of(plane: Plane, provider: E2BSandboxProvider, spec: SandboxSpec) -> str:
    """Returns the idempotency key that the sandbox is asked for with."""
    plane.requests.clear()
    plane.answer = httpx.Response(201, json=INFO)
    provider.create(spec, within=WITHIN)
    return plane.request.headers["Idempotency-Key"]


def test_the_idempotency_key_is_the_same_for_the_same_request_however_long_it_may_take(
    plane: Plane, provider: E2BSandboxProvider
) -> None:
    first = key_of(plane, provider, SPEC)
    plane.requests.clear()
    reordered = dict(sorted(SPEC.metadata.items(), reverse=True))
    provider.create(replace(SPEC, metadata=reordered), within=2 * WITHIN)

    assert plane.request.headers["Idempotency-Key"] == first


@pytest.mark.parametrize(
    "changes",
    [
        {"idempotency_key": "key-2"},
        {"lifetime": timedelta(seconds=331)},
        {"pauses": False},
        {"metadata": {"app": "sandkeeper", "stack": "another"}},
        {"metadata": {}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_idempotency_key_differs_where_the_request_does(
    plane: Plane, provider: E2BSandboxProvider, changes: dict[str, Any]
) -> None:
    """E2B refuses one key for two different requests: settings change while claims are under way."""
    assert key_of(plane, provider, SPEC) != key_of(plane, provider, replace(SPEC, **changes))


def test_the_idempotency_key_of_every_session_is_one_that_e2b_takes(
    plane: Plane, provider: E2BSandboxProvider, world: World
) -> None:
    world.configure(stack_name="A stack_of.ours" + "x" * 49)
    world.run()

    assert re.fullmatch(r"[a-z0-9-]{1,255}", key_of(plane, provider, world.sandboxes.specs["sbx1"]))


@given(st.text(max_size=20), st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_whatever_the_request_says_its_part_of_the_key_is_legal(template: str, metadata: dict[str, str]) -> None:
    key = adapter._idempotency_key(replace(SPEC, metadata=metadata), template)

    assert re.fullmatch(r"key-1-[0-9a-f]{16}", key)


def test_an_unknown_template_is_the_deployments_fault(plane: Plane, provider: E2BSandboxProvider) -> None:
    plane.answer = httpx.Response(404, json={"code": 404, "message": "template not found"})

    with pytest.raises(NotConfigured, match="E2B_TEMPLATE"):
        provider.create(SPEC, within=WITHIN)


# ── Connecting, extending, killing ──────────────────────────────────────────────────────────────────


def test_who_connects_says_for_how_long_and_waits_no_longer_than_it_may(
    plane: Plane, provider: E2BSandboxProvider
) -> None:
    plane.answer = httpx.Response(200, json=INFO | {"envdAccessToken": "another"})

    found = provider.connect("sbx1", timedelta(seconds=305), within=WITHIN)

    assert (found.sandbox_id, found.envd_token) == ("sbx1", "another")
    assert plane.request.url.path == "/v2/sandboxes/sbx1/connect"
    assert plane.body["timeout"] == 305
    assert limit_of(plane.request) == WITHIN


def test_an_extension_says_for_how_long(plane: Plane, provider: E2BSandboxProvider) -> None:
    plane.answer = httpx.Response(204)

    provider.extend("sbx1", timedelta(seconds=305))

    assert plane.request.url.path == "/sandboxes/sbx1/timeout"
    assert plane.body == {"timeout": 305}


Call = Callable[[E2BSandboxProvider], object]
CALLS: dict[str, Call] = {
    "create": lambda provider: provider.create(SPEC, within=WITHIN),
    "connect": lambda provider: provider.connect("sbx1", MINUTE, within=WITHIN),
    "extend": lambda provider: provider.extend("sbx1", MINUTE),
    "kill": lambda provider: provider.kill("sbx1"),
}
PROBLEM = {"code": 0, "message": "no"}


@pytest.mark.parametrize("name", ["extend", "kill"])
def test_a_call_that_is_given_no_limit_has_one(plane: Plane, provider: E2BSandboxProvider, name: str) -> None:
    plane.answer = httpx.Response(404, json=PROBLEM)

    with suppress(SandboxGone, SandboxUnavailable):
        CALLS[name](provider)

    assert limit_of(plane.request) == timedelta(seconds=CONTROL_TIMEOUT_S)


@pytest.mark.parametrize("name", ["connect", "extend"])
def test_a_sandbox_that_is_gone_is_told_as_such(plane: Plane, provider: E2BSandboxProvider, name: str) -> None:
    plane.answer = httpx.Response(404, json=PROBLEM)

    with pytest.raises(SandboxGone):
        CALLS[name](provider)


def test_a_sandbox_that_is_gone_is_as_good_as_killed(plane: Plane, provider: E2BSandboxProvider) -> None:
    plane.answer = httpx.Response(404, json=PROBLEM)

    provider.kill("sbx1")

    assert (plane.request.method, plane.request.url.path) == ("DELETE", "/sandboxes/sbx1")


@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.parametrize(
    ("status", "error"),
    [(401, NotConfigured), (429, CapacityExhausted), (503, CapacityExhausted), (500, SandboxUnavailable)],
)
def test_what_the_control_plane_refuses_becomes_one_of_ours(
    plane: Plane, provider: E2BSandboxProvider, name: str, status: int, error: type[Exception]
) -> None:
    plane.answer = httpx.Response(status, json=PROBLEM | {"code": status})

    with pytest.raises(error):
        CALLS[name](provider)


# ── The runner ──────────────────────────────────────────────────────────────────────────────────────


def prepared(provider: E2BSandboxProvider, monkeypatch: pytest.MonkeyPatch, where: SandboxRef) -> dict[str, Any]:
    """Returns what the sandbox is asked to do so that it has a runner."""
    ran: list[dict[str, Any]] = []
    commands = SimpleNamespace(run=lambda command, **options: ran.append({"command": command, **options}))
    monkeypatch.setattr(provider, "_attach", lambda _: SimpleNamespace(commands=commands))
    provider.prepare(where)
    (asked,) = ran
    return asked


def test_a_runner_is_started_as_root_so_that_code_cannot_end_it_and_within_bounds(
    provider: E2BSandboxProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = prepared(provider, monkeypatch, sandbox())

    assert asked["command"] == start_command()
    assert asked["user"] == "root"
    assert asked["timeout"] == adapter.START_TIMEOUT_S
    assert asked["request_timeout"] <= adapter.CONNECT_TIMEOUT_S


def test_a_runner_asks_for_a_token_of_its_own_sandbox_that_is_no_other_secret(
    provider: E2BSandboxProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, again, other = (prepared(provider, monkeypatch, sandbox(name))["envs"] for name in ("a", "a", "b"))

    assert one == again, "whoever comes later is let in"
    assert one["RUNNER_TOKEN"] != other["RUNNER_TOKEN"]
    assert not {KEY, "envd-token", "traffic-token"} & {one["RUNNER_TOKEN"]}
    assert one["RUNNER_INTERPRETER_TOKEN"] == "envd-token"


def test_its_requests_carry_its_token_and_the_sandboxs_coordinates_and_no_other_secret(
    provider: E2BSandboxProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = provider._runner(sandbox())

    token = prepared(provider, monkeypatch, sandbox())["envs"]["RUNNER_TOKEN"]
    assert runner.headers == {
        "E2b-Sandbox-Id": "sbx1",
        "E2b-Sandbox-Port": "49990",
        "Authorization": f"Bearer {token}",
        "E2B-Traffic-Access-Token": "traffic-token",
    }
    assert runner.url == "http://sandbox.invalid"


def test_at_e2bs_own_address_a_runner_has_a_host_of_its_own() -> None:
    provider = E2BSandboxProvider(lambda: E2BAccount(api_key=KEY, template="code-interpreter-v1"))

    runner = provider._runner(replace(sandbox(), traffic_token=None))

    assert runner.url == "https://49990-sbx1.sandboxes.invalid"
    assert "E2B-Traffic-Access-Token" not in runner.headers
