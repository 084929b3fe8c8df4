"""The control plane's JSON, against the installed SDK."""

import urllib.parse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from e2b.api.client.models import ListedSandbox, NewSandboxV2, SandboxDetail
from e2b.api.client.models import Sandbox as CreatedSandbox
from e2b.envd import versions
from packaging.version import Version

from local.sandbox import wire
from local.sandbox.cell import Cell
from local.sandbox.fleet import Query
from local.sandbox.isolation import Folders
from local.sandbox.sandbox import Sandbox, Spec, State

START = datetime(2026, 1, 1, tzinfo=UTC)


def made(sandbox_id: str = "i1", *, age_s: int = 0, spec: Spec | None = None) -> Sandbox:
    """A sandbox without processes."""
    sandbox = Sandbox(Cell(sandbox_id, Folders(Path()), cast(Any, None)), spec or Spec())
    sandbox.started_at = START - timedelta(seconds=age_s)
    return sandbox


def test_replies_are_what_the_sdk_reads() -> None:
    sandbox = made(spec=Spec(template_id="t", metadata={"a": "b"}, pause_at_deadline=True))
    created = CreatedSandbox.from_dict(wire.created(sandbox, "localhost:1"))
    assert (created.sandbox_id, created.envd_access_token) == ("i1", sandbox.access_token)
    listed = ListedSandbox.from_dict(wire.listed(sandbox, 512))
    assert (listed.metadata, listed.memory_mb, listed.started_at) == ({"a": "b"}, 512, START)
    detail = SandboxDetail.from_dict(wire.detail(sandbox, 512, "localhost:1"))
    assert cast(Any, detail.lifecycle).on_timeout == "pause"


def test_the_default_request_of_the_sdk_asks_for_nothing_special() -> None:
    body = NewSandboxV2(template_id="base", metadata={"a": "b"}, env_vars={"X": "1"}, auto_pause=True)
    spec = wire.NewSandbox.model_validate(body.to_dict()).spec()
    assert spec == Spec("base", 300, {"a": "b"}, {"X": "1"}, pause_at_deadline=True)


@pytest.mark.parametrize(
    "asked",
    [
        {"volumeMounts": [{"name": "v", "path": "/v"}]},
        {"mcp": {"server": {}}},
        {"iam": {"tokens": {}}},
        {"autoPauseMemory": False},
        {"network": {"allowOut": ["1.1.1.1"]}},
    ],
)
def test_what_only_the_cloud_has_is_unsupported(asked: dict[str, Any]) -> None:
    with pytest.raises(wire.UnsupportedError):
        wire.NewSandbox.model_validate({"templateID": "base", **asked}).spec()


def test_the_envd_version_passes_every_feature_gate_of_the_sdk() -> None:
    """When this fails, the SDK has begun to use something new of envd: see that the agent has it."""
    gates = [value for value in vars(versions).values() if isinstance(value, Version)]
    assert max(gate for gate in gates if gate != versions.ENVD_DEBUG_FALLBACK) <= Version(wire.ENVD_VERSION)


def test_a_metadata_filter_is_read_as_the_sdk_quotes_it() -> None:
    quoted = urllib.parse.urlencode({urllib.parse.quote("ä&b"): urllib.parse.quote("1 = 2+3%")})
    assert wire.metadata(quoted) == {"ä&b": "1 = 2+3%"}


def test_a_query_fits_what_it_names() -> None:
    sandbox = made(spec=Spec(template_id="t", metadata={"a": "1", "b": "2"}))
    assert Query({"a": "1"}).fits(sandbox)
    assert not Query({"a": "2"}).fits(sandbox)
    assert not Query({}, states=frozenset({State.PAUSED})).fits(sandbox)
    assert Query({}, started_after=START).fits(sandbox)
    assert not Query({}, started_after=START + timedelta(seconds=1)).fits(sandbox)
    assert not Query({}, template_id="u").fits(sandbox)


def test_pages_are_stable_while_sandboxes_come_and_go() -> None:
    oldest, middle, newest = (made(name, age_s=age) for name, age in (("a", 3), ("b", 2), ("c", 1)))
    first, token = wire.page([oldest, middle, newest], limit=2, newest_first=True, token=None)
    assert [sandbox.id for sandbox in first] == ["c", "b"]
    rest, end = wire.page([oldest, newest, made("d")], limit=2, newest_first=True, token=token)
    assert ([sandbox.id for sandbox in rest], end) == (["a"], None)


def test_sandboxes_of_the_same_moment_are_all_listed() -> None:
    sandboxes = [made(name) for name in "abc"]
    first, token = wire.page(sandboxes, limit=1, newest_first=False, token=None)
    second, _ = wire.page(sandboxes, limit=5, newest_first=False, token=token)
    assert [sandbox.id for sandbox in first + second] == ["a", "b", "c"]


@pytest.mark.parametrize("parameters", [{"state": "lost"}, {"startedAfter": "yesterday"}])
def test_filters_that_cannot_be_read_are_errors(parameters: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"lost|yesterday"):
        wire.query(parameters)
