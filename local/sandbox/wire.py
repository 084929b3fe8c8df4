"""The JSON of E2B's control plane, as the SDK's generated models read and write it."""

import base64
import binascii
import shutil
import urllib.parse
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from local.sandbox.fleet import Query
from local.sandbox.limits import CPU_COUNT, DISK_MIB
from local.sandbox.sandbox import Sandbox, Spec, State

ENVD_VERSION = "0.6.7"
CLIENT_ID = "local"
PAGE_LIMIT = 100

Seconds = Annotated[int, Field(ge=0, le=24 * 3600)]


class UnsupportedError(Exception):
    """Raised for what E2B offers and this server does not; nothing was done."""


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class NewSandbox(_Body):
    """The body of a create.

    Any template is accepted, as all have the same content here: a program that names the one that it uses in
    the cloud runs unchanged.
    """

    template_id: Annotated[str, Field(alias="templateID", min_length=1)]
    timeout: Seconds = 300
    metadata: dict[str, str] = {}
    env_vars: Annotated[dict[str, str], Field(alias="envVars")] = {}
    auto_pause: Annotated[bool, Field(alias="autoPause")] = False
    auto_pause_memory: Annotated[bool, Field(alias="autoPauseMemory")] = True
    auto_resume: Annotated[dict[str, Any] | None, Field(alias="autoResume")] = None
    allow_internet_access: bool | None = None
    network: dict[str, Any] = {}
    volume_mounts: Annotated[list[Any], Field(alias="volumeMounts")] = []
    mcp: dict[str, Any] | None = None
    iam: dict[str, Any] | None = None

    def spec(self) -> Spec:
        """What is asked for.

        Raises:
            UnsupportedError: it asks for something that only the cloud has.
        """
        egress = {name for name, value in self.network.items() if value and name != "allowPublicTraffic"}
        for name, asked in (
            ("volumes", self.volume_mounts),
            ("MCP servers", self.mcp),
            ("workload identity", self.iam),
            ("pauses without memory", not self.auto_pause_memory),
            (f"network rules {sorted(egress)}", egress),
        ):
            if asked:
                raise UnsupportedError(f"{name} are not part of the local sandbox server")
        return Spec(
            template_id=self.template_id,
            timeout_s=self.timeout,
            metadata=self.metadata,
            env_vars=self.env_vars,
            pause_at_deadline=self.auto_pause,
            resume_on_traffic=bool(self.auto_resume and self.auto_resume.get("enabled")),
            internet_access=self.allow_internet_access,
            public_traffic=self.network.get("allowPublicTraffic") is not False,
        )


class Lifetime(_Body):
    """The body of connect, resume and timeout; `memory: false` would be a reboot from disk."""

    timeout: Seconds = 300
    memory: bool = True


class Refresh(_Body):
    """The body of a refresh."""

    duration: Annotated[int, Field(ge=0, le=3600)] = 15


class Pause(_Body):
    """The body of a pause."""

    memory: bool = True


def created(sandbox: Sandbox, domain: str) -> dict[str, Any]:
    """The reply to create, connect and resume."""
    return {
        "templateID": sandbox.spec.template_id,
        "sandboxID": sandbox.id,
        "clientID": CLIENT_ID,
        "envdVersion": ENVD_VERSION,
        "envdAccessToken": sandbox.access_token,
        "trafficAccessToken": sandbox.traffic_token,
        "domain": domain,
    }


def listed(sandbox: Sandbox, memory_mib: int) -> dict[str, Any]:
    """One entry of a list."""
    return {
        "templateID": sandbox.spec.template_id,
        "sandboxID": sandbox.id,
        "clientID": CLIENT_ID,
        "startedAt": _text(sandbox.started_at),
        "endAt": _text(sandbox.end_at),
        "cpuCount": CPU_COUNT,
        "memoryMB": memory_mib,
        "diskSizeMB": DISK_MIB,
        "metadata": dict(sandbox.spec.metadata),
        "state": sandbox.state,
        "envdVersion": ENVD_VERSION,
    }


def detail(sandbox: Sandbox, memory_mib: int, domain: str) -> dict[str, Any]:
    """The reply to info."""
    spec = sandbox.spec
    return {
        **listed(sandbox, memory_mib),
        "envdAccessToken": sandbox.access_token,
        "domain": domain,
        "allowInternetAccess": spec.internet_access,
        "network": {"allowPublicTraffic": spec.public_traffic},
        "lifecycle": {
            "autoResume": spec.resume_on_traffic,
            "onTimeout": "pause" if spec.pause_at_deadline else "kill",
        },
        **({"pauseMode": "full"} if sandbox.state is State.PAUSED else {}),
    }


def record(sandbox: Sandbox) -> dict[str, Any]:
    """What a test wants to know of a sandbox, also of one that is gone."""
    return {
        "sandboxID": sandbox.id,
        "state": sandbox.state,
        "metadata": dict(sandbox.spec.metadata),
        "startedAt": _text(sandbox.started_at),
        "endAt": _text(sandbox.end_at),
        "endedAt": sandbox.ended_at and _text(sandbox.ended_at),
    }


def metric(sandbox: Sandbox, memory_mib: int) -> dict[str, Any]:
    """What the sandbox uses now; the CPU percentage is the average since it was started."""
    now = datetime.now(UTC)
    usage = sandbox.cell.usage()
    disk = shutil.disk_usage(sandbox.cell.folders.home)
    age_s = max((now - sandbox.started_at).total_seconds(), 0.001)
    return {
        "timestamp": _text(now),
        "timestampUnix": int(now.timestamp()),
        "cpuCount": CPU_COUNT,
        "cpuUsedPct": round(100 * usage.cpu_s / age_s, 2),
        "memUsed": usage.memory_bytes,
        "memTotal": memory_mib * 1024 * 1024,
        "memCache": 0,
        "diskUsed": _size_bytes(sandbox),
        "diskTotal": disk.free + _size_bytes(sandbox),
    }


def query(parameters: dict[str, str]) -> Query:
    """The filter that a list's query parameters describe.

    Raises:
        ValueError: a state or time that cannot be read.
    """
    after = parameters.get("startedAfter")
    states = parameters.get("state", "running,paused").split(",")
    if unknown := set(states) - {State.RUNNING, State.PAUSED}:
        raise ValueError(f"a sandbox is never {sorted(unknown)} in a list; it is running or paused")
    return Query(
        metadata=metadata(parameters.get("metadata", "")),
        states=frozenset(map(State, states)),
        started_after=datetime.fromisoformat(after).astimezone() if after else None,
        template_id=parameters.get("template"),
    )


def metadata(parameter: str) -> dict[str, str]:
    """The names and values of a metadata filter, which the SDK quotes once on their own and once together."""
    pairs = urllib.parse.parse_qsl(parameter, keep_blank_values=True)
    return {urllib.parse.unquote(name): urllib.parse.unquote(value) for name, value in pairs}


def page(
    sandboxes: list[Sandbox], *, limit: int, newest_first: bool, token: str | None
) -> tuple[list[Sandbox], str | None]:
    """One page of sandboxes that come in order of age, and the token of the next page if there is one.

    The token names the last entry and not a position, so that a create or kill meanwhile shifts nothing.

    Raises:
        ValueError: a token that no list gave.
    """
    ordered = sandboxes[::-1] if newest_first else sandboxes
    if token:
        last = _position(token)
        ordered = [s for s in ordered if (_key(s) < last if newest_first else _key(s) > last)]
    rest = ordered[limit:]
    return ordered[:limit], _token(ordered[limit - 1]) if rest else None


def _key(sandbox: Sandbox) -> tuple[datetime, str]:
    return sandbox.started_at, sandbox.id


def _token(sandbox: Sandbox) -> str:
    return base64.urlsafe_b64encode(f"{_text(sandbox.started_at)}|{sandbox.id}".encode()).decode()


def _position(token: str) -> tuple[datetime, str]:
    try:
        started_at, _, sandbox_id = base64.urlsafe_b64decode(token).decode().partition("|")
        return datetime.fromisoformat(started_at), sandbox_id
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{token!r} is not a token of a list; take it from x-next-token") from error


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _size_bytes(sandbox: Sandbox) -> int:
    home = sandbox.cell.folders.home
    return sum(path.lstat().st_blocks * 512 for path in home.rglob("*") if not path.is_symlink())
