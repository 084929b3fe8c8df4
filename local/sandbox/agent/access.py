"""Who may ask: the access token of `/init`, and signed file URLs."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Literal

from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException

HEADER = "X-Access-Token"

Operation = Literal["read", "write"]


class Access:
    """Holds the sandbox's token; before `/init` gave one, everybody may ask."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._token = ""
        self._now = now

    def set_token(self, token: str) -> None:
        """From now on `token` is asked for; an empty one changes nothing."""
        self._token = token or self._token

    def require(self, headers: Headers) -> None:
        """Raises 401 unless the headers carry the token."""
        if self._token and not _same(headers.get(HEADER, ""), self._token):
            raise HTTPException(401, f"send the sandbox's access token in the header {HEADER}")

    def require_for_file(self, headers: Headers, query: QueryParams, operation: Operation) -> None:
        """Raises 401 unless the headers carry the token or the URL was signed with it for this operation."""
        signature = query.get("signature")
        if signature is None or headers.get(HEADER) or not self._token:
            self.require(headers)
            return
        expiration = query.get("signature_expiration")
        signed = _signature(query.get("path", ""), operation, query.get("username", ""), self._token, expiration)
        if not _same(signature, signed):
            raise HTTPException(401, "the URL's signature does not fit: sign path, operation and user again")
        if expiration is not None and int(expiration) < self._now():
            raise HTTPException(401, f"the URL's signature expired at {expiration!r}: sign a new one")


def _signature(path: str, operation: Operation, user: str, token: str, expiration: str | None) -> str:
    """The v1 signature that E2B's SDK puts into file URLs (`e2b.sandbox.signature`)."""
    parts = [path, operation, user, token, *([] if expiration is None else [expiration])]
    digest = hashlib.sha256(":".join(parts).encode()).digest()
    return "v1_" + base64.b64encode(digest).rstrip(b"=").decode()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
