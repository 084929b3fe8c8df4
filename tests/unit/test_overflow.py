"""Keeping what is too large for a reply: side by side, once, and without failing for it."""

import threading

import pytest

from sandkeeper.errors import StoreUnavailable
from sandkeeper.services import overflow
from sandkeeper.services.overflow import Content
from tests.world import CHAT, World

ONE, OTHER = Content(b"one", "text/html"), Content(b"other", "text/html")


def test_each_has_its_link_and_equal_ones_are_sent_once(world: World) -> None:
    links = world.wiring.overflow.keep(CHAT, [ONE, OTHER, Content(b"one", "text/html")])

    assert [link and world.results.kept[link.url][1] for link in links] == [b"one", b"other", b"one"]
    assert links[0] == links[2]
    assert world.taps["results"].calls == ["keep", "keep"]


def test_one_that_cannot_be_kept_does_not_cost_the_others(world: World) -> None:
    def fails_once(key: object, content: bytes, mime_type: str) -> object:
        if content == b"one":
            raise StoreUnavailable("throttled")
        return world.results.keep(CHAT, content, mime_type)

    world.taps["results"].instead["keep"] = fails_once

    links = world.wiring.overflow.keep(CHAT, [ONE, OTHER])

    assert [link is None for link in links] == [True, False]
    assert world.journal.notes == [("result.not_kept", {"error": "StoreUnavailable", "bytes": 3})]


def test_a_store_that_takes_too_long_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overflow, "KEEP_WITHIN_S", 0.0)
    answers = threading.Event()
    world.taps["results"].instead["keep"] = lambda *_: answers.wait(30)

    links = world.wiring.overflow.keep(CHAT, [ONE])

    answers.set()
    assert links == [None]
    assert world.events() == ["result.not_kept"]
    world.beside.settle()


def test_nothing_to_keep_asks_nobody(world: World) -> None:
    assert world.wiring.overflow.keep(CHAT, []) == []
    assert world.taps["results"].calls == []
