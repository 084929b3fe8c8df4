"""Heads of HTTP requests at the sandbox server's door."""

import pytest

from local.sandbox.head import BadRequestError, Head

REQUEST = (
    b"POST /files?path=a%20b&x=1 HTTP/1.1\r\nHost: h\r\nE2b-Sandbox-Id:  i1 \r\nConnection: keep-alive\r\n\r\nbo"
)


def parsed(data: bytes) -> Head:
    head = Head.parse(data)
    assert head
    return head


def test_a_head_is_complete_with_its_empty_line_and_not_before() -> None:
    end = len(REQUEST) - len(b"bo")
    assert all(Head.parse(REQUEST[:length]) is None for length in range(end))
    assert parsed(REQUEST[:end]).rest == b""


def test_names_are_found_whatever_their_case_and_values_without_blanks() -> None:
    head = parsed(REQUEST)
    assert head.get("e2b-sandbox-id") == "i1"
    assert head.get("missing") is None
    assert (head.path, head.query) == ("/files", {"path": "a b", "x": "1"})


def test_a_closing_head_asks_for_the_end_of_the_connection_and_changes_nothing_else() -> None:
    sent = parsed(REQUEST).closing()
    assert sent == REQUEST.replace(b"  i1 ", b" i1").replace(b"keep-alive", b"close")


def test_an_upgrade_keeps_its_connection_header() -> None:
    upgrade = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert parsed(upgrade).closing() == upgrade


@pytest.mark.parametrize("data", [b"hello\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"x" * 70_000])
def test_what_is_no_http_1_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequestError):
        Head.parse(data)
