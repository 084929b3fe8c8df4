"""What every reply tells browsers, whoever answers: nothing here is a page, nor to be kept or shown in one."""

from collections.abc import Iterable

Header = tuple[bytes, bytes]

PROTECTION: tuple[Header, ...] = (
    # Replies have what chats are about in them, and some lead to it: no cache is to keep either.
    (b"cache-control", b"no-store"),
    # What code has put out is in here: a reply that is opened as a page runs nothing and is in no frame.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    # Addresses name chats, and the one that a reply leads to is signed.
    (b"referrer-policy", b"no-referrer"),
)
OVER_TLS: Header = (b"strict-transport-security", b"max-age=63072000")
"""Not told over plain HTTP, where RFC 6797 (7.2) forbids it. Subdomains are not ours to speak for."""


def protected(headers: Iterable[Header], scheme: str) -> list[Header]:
    """Returns a reply's headers with these; what a route has said itself stays."""
    said = [*headers]
    names = {name.lower() for name, _ in said}
    added = [*PROTECTION, OVER_TLS] if scheme == "https" else PROTECTION
    return [*said, *(header for header in added if header[0] not in names)]
