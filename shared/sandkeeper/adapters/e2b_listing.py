"""The one request to E2B's control plane that is made without its SDK: which sandboxes there are.

Cleanup makes it every five minutes and mostly nothing else, and the SDK would be a third of its cold start. What is
asked, and what is read of the answer, is held to the SDK's own listing by a test.
"""

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import urllib3
from urllib3.exceptions import HTTPError

from sandkeeper.errors import CapacityExhausted, NotConfigured, SandboxUnavailable
from sandkeeper.ports import Listed, SandboxPage

if TYPE_CHECKING:
    from sandkeeper.adapters.e2b import E2BAccount

API_URL = "https://api.e2b.app"
NEXT = "X-Next-Token"
KEY_REFUSED = "E2B refuses the API key: set E2B_API_KEY to a valid one"
NO_ROOM = "E2B has no room for more sandboxes just now; try again later"
_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_REPEATED = urllib3.Retry(
    connect=False,
    read=False,
    redirect=0,
    status=3,
    status_forcelist=[*_BUSY, HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT],
    backoff_factor=0.1,
    raise_on_status=False,
    respect_retry_after_header=False,  # the next tick is a better time to wait for
)
"""Only an answer that says so is asked for again, within a second."""


def page_of(
    connections: urllib3.PoolManager,
    account: "E2BAccount",
    metadata: Mapping[str, str],
    *,
    limit: int,
    token: str | None,
    timeout_s: float,
) -> SandboxPage:
    """Returns sandboxes that carry the metadata, running and paused: see `SandboxProvider.page`.

    Raises `NotConfigured` when E2B refuses the key, else `CapacityExhausted` or `SandboxUnavailable`.
    """
    fields = {"order": "asc", "limit": str(limit)}
    if metadata:
        fields["metadata"] = urlencode({quote(name): quote(value) for name, value in metadata.items()})
    if token is not None:
        fields["nextToken"] = token
    try:
        answer = connections.request(
            "GET",
            (account.api_url or API_URL) + "/v2/sandboxes",
            fields=fields,
            headers={"X-API-Key": account.api_key},
            timeout=urllib3.Timeout(total=timeout_s),
            retries=_REPEATED,
        )
        if answer.status != HTTPStatus.OK:
            raise _refused(answer.status)
        return SandboxPage([_listed(told) for told in answer.json()], answer.headers.get(NEXT) or None)
    except (HTTPError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SandboxUnavailable(f"the sandboxes cannot be listed: {type(error).__name__}") from error


def _refused(status: int) -> Exception:
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return NotConfigured(KEY_REFUSED)
        case status if status in _BUSY:
            return CapacityExhausted(NO_ROOM)
    return SandboxUnavailable(f"the sandboxes cannot be listed: status {status}")


def _listed(told: Mapping[str, Any]) -> Listed:
    metadata = told.get("metadata")
    return Listed(
        sandbox_id=str(told["sandboxID"]),
        started_at=datetime.fromisoformat(told["startedAt"]),
        metadata=metadata if isinstance(metadata, dict) else {},
    )
