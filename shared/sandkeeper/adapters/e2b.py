"""Sandboxes of E2B, through its own SDK.

A sandbox is used by the coordinates that its creation returned, so that a warm call asks the control plane
nothing. The SDK offers no public way to do so; `_attached` is the one place that knows how, and a test holds it
against the installed version.

The SDK takes a third of a cold start to import, and is needed for the control plane and for files, neither for runs
in a sandbox that there is nor to list sandboxes (`e2b_listing.py`). In the layer it is a lazy package
(layers/rewriting.py): what is named `e2b.…` here is imported when a call needs it.
"""

import hmac
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import e2b
from e2b.exceptions import is_sandbox_not_found_message
from e2b.sandbox_domains import is_supported_sandbox_domain

from sandkeeper.adapters.e2b_listing import KEY_REFUSED, NO_ROOM, page_of
from sandkeeper.adapters.runner.client import Runner, connections
from sandkeeper.adapters.runner.package import start_command
from sandkeeper.errors import CapacityExhausted, FileNotFound, FileUnusable, NotConfigured, SandboxUnavailable
from sandkeeper.model import SandboxRef
from sandkeeper.outputs.sound import sound_text
from sandkeeper.ports import Completions, SandboxGone, SandboxPage, SandboxSpec
from sandkeeper.runner.__main__ import PORT as RUNNER_PORT
from sandkeeper.runs import Cancelled, RunEvent, RunOrder

if TYPE_CHECKING:
    from e2b.sandbox.filesystem.filesystem import FileStreamReader

CONTROL_TIMEOUT_S = 15.0
"""How long a call of the control plane may take, the SDK's own retries of busy answers included."""

CONNECT_TIMEOUT_S = 5.0

START_TIMEOUT_S = 10.0
"""How long a runner may take to start."""

TRANSFER_TIMEOUT_S = 30.0
"""How long a file may take on its way into a sandbox."""

PHASES_SUMMED = 2
"""The SDK hands a limit to its transport (pyqwest 0.12.0) as the limit of reading and of writing, and the transport
ends the request after the sum of both: twice as late as asked. A contract test counts how long a call waits, so
that a version that mends this is noticed."""

LISTING_TIMEOUT_S = 6.0
"""How long a sandbox may take to list its packages."""
MOST_PACKAGES = 1_000
PACKAGE_CHARS = 100
"""What of a list of packages is believed: a row has to hold it."""

_LIST_PACKAGES = """
import importlib.metadata, json
found = {}
for each in importlib.metadata.distributions():
    if each.metadata and each.metadata["Name"]:
        found.setdefault(each.metadata["Name"], each.version)
print(json.dumps(found))
"""
"""The first of a name is the one that is imported: so it is in the order of the path."""

DOMAIN = "e2b.app"
"""Where sandboxes are that name no domain."""

REMEMBERED_SANDBOXES = 256


@contextmanager
def _our_errors() -> Iterator[None]:
    """Turns every error of the SDK into one of ours. Order matters: the SDK's classes overlap."""
    import httpx  # noqa: PLC0415 - see the module's docstring

    try:
        yield
    except e2b.AuthenticationException as error:
        raise NotConfigured(KEY_REFUSED) from error
    except (e2b.RateLimitException, e2b.ServiceBusyException) as error:
        raise CapacityExhausted(NO_ROOM) from error
    except e2b.NotEnoughSpaceException as error:
        raise FileUnusable("the file does not fit into the sandbox; use a smaller one") from error
    except (e2b.NotFoundException, e2b.SandboxNotRunningException) as error:
        raise SandboxGone(str(error)) from error
    except (e2b.TimeoutException, e2b.SandboxException, httpx.TransportError, OSError) as error:
        if is_sandbox_not_found_message(str(error)):  # how the interpreter's calls tell it
            raise SandboxGone(str(error)) from error
        raise SandboxUnavailable(f"the sandbox cannot be reached: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class E2BAccount:
    """Where E2B is, and who we are there. URLs are None for E2B's own."""

    api_key: str = field(repr=False)
    template: str
    api_url: str | None = None
    sandbox_url: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Returns what the SDK's calls take, so that it need not look into the environment."""
        return {
            "api_key": self.api_key,
            "api_url": self.api_url,
            "sandbox_url": self.sandbox_url,
            "request_timeout": _request_timeout(CONTROL_TIMEOUT_S),
        }

    def within(self, time: timedelta) -> dict[str, Any]:
        """Returns the same for a call that may take so long."""
        return {**self.options, "request_timeout": _request_timeout(time.total_seconds())}


class E2BSandboxProvider:
    """`SandboxProvider` on E2B, or on whatever speaks its protocol."""

    def __init__(self, account: Callable[[], E2BAccount]) -> None:
        """`account` is asked at each call: its key may have to be fetched first."""
        self._account = account
        self._connections = connections()
        self._attached_before: OrderedDict[SandboxRef, e2b.Sandbox] = OrderedDict()
        self._lock = threading.Lock()

    def create(self, spec: SandboxSpec, *, within: timedelta) -> SandboxRef:
        """See `SandboxProvider.create`."""
        account = self._account()
        with _our_errors():
            try:
                sandbox = e2b.Sandbox.create(
                    account.template,
                    timeout=_seconds(spec.lifetime),
                    metadata=dict(spec.metadata),
                    lifecycle={"on_timeout": "pause" if spec.pauses else "kill"},
                    network={"allow_public_traffic": False},
                    idempotency_key=_idempotency_key(spec, account.template),
                    **account.within(within),
                )
            except e2b.SandboxException as error:
                if error.status_code != HTTPStatus.NOT_FOUND:
                    raise
                raise NotConfigured(f"E2B has no template {account.template!r}: set E2B_TEMPLATE") from error
        return _ref(sandbox)

    def connect(self, sandbox_id: str, lifetime: timedelta, *, within: timedelta) -> SandboxRef:
        """See `SandboxProvider.connect`."""
        account = self._account()
        with _our_errors():
            return _ref(e2b.Sandbox.connect(sandbox_id, timeout=_seconds(lifetime), **account.within(within)))

    def page(self, metadata: Mapping[str, str], *, limit: int, token: str | None = None) -> SandboxPage:
        """See `SandboxProvider.page`."""
        return page_of(
            self._connections, self._account(), metadata, limit=limit, token=token, timeout_s=CONTROL_TIMEOUT_S
        )

    def extend(self, sandbox_id: str, lifetime: timedelta) -> None:
        """See `SandboxProvider.extend`."""
        with _our_errors():
            e2b.Sandbox.set_timeout(sandbox_id, _seconds(lifetime), **self._account().options)

    def kill(self, sandbox_id: str) -> None:
        """See `SandboxProvider.kill`."""
        with _our_errors():
            e2b.Sandbox.kill(sandbox_id, **self._account().options)

    def prepare(self, sandbox: SandboxRef) -> None:
        """See `SandboxProvider.prepare`: starts the runner, unless there is one."""
        tokens = {"RUNNER_TOKEN": self._token(sandbox), "RUNNER_INTERPRETER_TOKEN": sandbox.envd_token or ""}
        with _our_errors():
            self._attach(sandbox).commands.run(
                start_command(),
                user="root",
                envs=tokens,
                timeout=START_TIMEOUT_S,
                request_timeout=CONNECT_TIMEOUT_S,
            )

    def run(self, sandbox: SandboxRef, order: RunOrder, *, wait: timedelta) -> Iterator[RunEvent]:
        """See `SandboxProvider.run`."""
        return self._runner(sandbox).run(order, wait)

    def follow(self, sandbox: SandboxRef, run_id: str, *, after: int, wait: timedelta) -> Iterator[RunEvent]:
        """See `SandboxProvider.follow`."""
        return self._runner(sandbox).follow(run_id, after, wait)

    def cancel(self, sandbox: SandboxRef, run_id: str | None = None) -> Cancelled:
        """See `SandboxProvider.cancel`."""
        return self._runner(sandbox).cancel(run_id)

    def restart_kernel(self, sandbox: SandboxRef) -> None:
        """See `SandboxProvider.restart_kernel`."""
        self._runner(sandbox).restart_kernel()

    def complete(self, sandbox: SandboxRef, code: str, cursor: int) -> Completions | None:
        """See `SandboxProvider.complete`."""
        return self._runner(sandbox).complete(code, cursor)

    def _runner(self, sandbox: SandboxRef) -> Runner:
        """Returns the sandbox's runner, which is started when it does not answer."""
        headers = {
            "E2b-Sandbox-Id": sandbox.sandbox_id,
            "E2b-Sandbox-Port": str(RUNNER_PORT),
            "Authorization": f"Bearer {self._token(sandbox)}",
        }
        if sandbox.traffic_token is not None:
            headers["E2B-Traffic-Access-Token"] = sandbox.traffic_token
        url = _runner_url(sandbox, self._account())
        return Runner(self._connections, url, headers, start=lambda: self.prepare(sandbox))

    def _token(self, sandbox: SandboxRef) -> str:
        """Returns what a sandbox's runner asks for: known to whoever has the account's key, and kept nowhere."""
        key = self._account().api_key.encode()
        return hmac.new(key, f"runner of {sandbox.sandbox_id}".encode(), sha256).hexdigest()

    def packages(self, sandbox: SandboxRef) -> Mapping[str, str]:
        """See `SandboxProvider.packages`: the kernel's Python is the first `python3`, as in E2B's image.

        It is asked from a folder where no file of the user's can stand for a module.
        """
        with _our_errors():
            told = self._attach(sandbox).commands.run(
                f"python3 -c '{_LIST_PACKAGES}'",
                cwd="/",
                timeout=LISTING_TIMEOUT_S,
                request_timeout=_request_timeout(LISTING_TIMEOUT_S),
            )
        return _packages(told.stdout)

    def write_file(self, sandbox: SandboxRef, path: str, content: Iterable[bytes]) -> None:
        """See `SandboxProvider.write_file`."""
        with _our_errors():
            self._attach(sandbox).files.write(path, iter(content))

    def read_file(self, sandbox: SandboxRef, path: str) -> Iterator[bytes]:
        """See `SandboxProvider.read_file`."""
        with _our_errors():
            try:
                content = self._attach(sandbox).files.read(path, format="stream")
            except (e2b.FileNotFoundException, e2b.InvalidArgumentException) as error:
                raise FileNotFound(f"the sandbox has no file {path!r} that can be read") from error
        return self._chunks(content)

    @staticmethod
    def _chunks(content: "FileStreamReader") -> Iterator[bytes]:
        with _our_errors(), content:
            yield from content

    def delete_file(self, sandbox: SandboxRef, path: str) -> None:
        """See `SandboxProvider.delete_file`."""
        with _our_errors():
            try:
                self._attach(sandbox).files.remove(path)
            except e2b.FileNotFoundException:
                return

    def _attach(self, sandbox: SandboxRef) -> "e2b.Sandbox":
        """Returns the SDK's object for these coordinates. Making one costs 2.5 ms, so the latest are kept.

        It holds no connection of its own and no state: the SDK's pool is shared by all.
        """
        with self._lock:
            attached = self._attached_before.pop(sandbox, None) or _attached(sandbox, self._account())
            self._attached_before[sandbox] = attached
            if len(self._attached_before) > REMEMBERED_SANDBOXES:
                self._attached_before.popitem(last=False)
        return attached


def _ref(sandbox: "e2b.Sandbox") -> SandboxRef:
    return SandboxRef(
        sandbox_id=sandbox.sandbox_id,
        domain=sandbox.sandbox_domain,
        envd_version=str(sandbox._envd_version),
        envd_token=sandbox._envd_access_token,
        traffic_token=sandbox.traffic_access_token,
    )


def _runner_url(sandbox: SandboxRef, account: E2BAccount) -> str:
    """Returns where a sandbox's runner is, as the SDK's `ConnectionConfig.get_sandbox_url` has it."""
    if account.sandbox_url:
        return account.sandbox_url
    domain = sandbox.domain or DOMAIN
    if is_supported_sandbox_domain(domain):
        return f"https://sandbox.{domain}"
    return f"https://{RUNNER_PORT}-{sandbox.sandbox_id}.{domain}"


def _idempotency_key(spec: SandboxSpec, template: str) -> str:
    """Returns a key that differs where the request does: E2B refuses one key for two different requests."""
    request = f"{template} {spec.lifetime} {spec.pauses} {sorted(spec.metadata.items())}"
    return f"{spec.idempotency_key}-{sha256(request.encode()).hexdigest()[:16]}"


def _attached(sandbox: SandboxRef, account: E2BAccount) -> "e2b.Sandbox":
    """Returns what `Sandbox.connect` would, without its request: see how the SDK builds it there."""
    from packaging.version import Version  # noqa: PLC0415 - see the module's docstring

    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(e2b.ConnectionConfig.envd_port)}
    if sandbox.envd_token is not None:
        headers["X-Access-Token"] = sandbox.envd_token
    return e2b.Sandbox(
        sandbox_id=sandbox.sandbox_id,
        sandbox_domain=sandbox.domain,
        envd_version=Version(sandbox.envd_version),
        envd_access_token=sandbox.envd_token,
        traffic_access_token=sandbox.traffic_token,
        connection_config=e2b.ConnectionConfig(
            extra_sandbox_headers=headers, **account.within(timedelta(seconds=TRANSFER_TIMEOUT_S))
        ),
    )


def _packages(told: str) -> Mapping[str, str]:
    """Returns the packages that a sandbox has told, of which code in it may have made anything."""
    try:
        listed = {
            str(name)[:PACKAGE_CHARS]: str(version)[:PACKAGE_CHARS] for name, version in json.loads(told).items()
        }
    except (ValueError, AttributeError, RecursionError) as error:
        raise SandboxUnavailable("the sandbox's packages cannot be listed: its answer is no JSON object") from error
    return {sound_text(name): sound_text(listed[name]) for name in sorted(listed, key=str.lower)[:MOST_PACKAGES]}


def _request_timeout(seconds: float) -> float:
    """Returns what the SDK has to be told, so that a request ends after this time."""
    return seconds / PHASES_SUMMED


def _seconds(duration: timedelta) -> int:
    return max(1, round(duration.total_seconds()))
