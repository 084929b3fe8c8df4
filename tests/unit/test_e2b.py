"""The adapter to E2B, held to the SDK that is installed."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import e2b
import httpx
import pytest
from e2b import Sandbox
from e2b import exceptions as sdk

from sandkeeper.adapters import e2b as adapter
from sandkeeper.adapters.e2b import E2BAccount, E2BSandboxProvider
from sandkeeper.errors import CapacityExhausted, FileUnusable, NotConfigured, SandboxUnavailable, StoreUnavailable
from sandkeeper.ports import SandboxGone
from sandkeeper.runner.__main__ import PORT as RUNNER_PORT
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


@pytest.mark.parametrize("url", ["http://sandbox.invalid", None], ids=["of a local server", "of E2B"])
@pytest.mark.parametrize("domain", ["e2b.app", "e2b.dev", "sandboxes.example", None])
def test_a_runner_is_where_the_sdk_would_look_for_it(url: str | None, domain: str | None) -> None:
    account, ref = replace(ACCOUNT, sandbox_url=url), replace(sandbox(), domain=domain)
    attached = adapter._attached(ref, account)
    theirs = attached.connection_config.get_sandbox_url(ref.sandbox_id, attached.sandbox_domain, RUNNER_PORT)
    assert adapter._runner_url(ref, account) == theirs


def test_the_key_to_e2b_shows_nowhere() -> None:
    assert ACCOUNT.api_key not in repr(ACCOUNT)
