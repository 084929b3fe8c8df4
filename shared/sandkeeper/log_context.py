"""What log lines tell of the call that they belong to: its request's id, and whose call of which chat it is.

Owners and chats are told by a short hash: callers choose their names, mail addresses among them. Equal names have
equal hashes, so that whoever knows a name finds its lines.
"""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from hashlib import sha256
from types import MappingProxyType
from typing import Any, TypeVar

from sandkeeper.model import ChatKey

HASH_CHARS = 12

T = TypeVar("T")

_FACTS: ContextVar[Mapping[str, str] | dict[str, str]] = ContextVar("_FACTS", default=MappingProxyType({}))


def begin(**facts: str) -> None:
    """Lets lines tell these facts alone, here and in what is begun from here; others' calls are not concerned."""
    _FACTS.set(facts)


def add(**facts: str) -> None:
    """Lets the lines of the call that has begun tell these facts too, wherever they come from."""
    known = _FACTS.get()
    if isinstance(known, dict):
        known.update(facts)


def add_owner(owner: str) -> None:
    """Lets the call's lines tell its owner."""
    add(owner_hash=hash_of(owner))


def add_chat(key: ChatKey) -> None:
    """Lets the call's lines tell its chat."""
    add(owner_hash=hash_of(key.owner), chat_hash=hash_of(key.chat_id))


def begin_chat(key: ChatKey) -> None:
    """Lets lines tell this chat beside what they tell already; those of the same call for other chats do not."""
    begin(**_FACTS.get())
    add_chat(key)


def told() -> Mapping[str, str]:
    """Returns what a line tells now."""
    return _FACTS.get()


def hash_of(name: str) -> str:
    """Returns by what a name is known in the log: `printf %s name | sha256sum | cut -c 1-12`."""
    return sha256(name.encode(errors="replace")).hexdigest()[:HASH_CHARS]


def quieten_libraries() -> None:
    """Lets libraries log what is wrong, and no more: they know nothing of what is not to be told.

    HTTP clients log addresses, in which files and chats are named, and with the level DEBUG all that is sent.
    Loggers without a level of their own take the root's, which Lambda sets to the level of our own lines.
    """
    logging.getLogger().setLevel(logging.WARNING)


class Threads(ThreadPoolExecutor):
    """Threads whose lines tell of the call that they work for."""

    def submit(self, do: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Runs something in a thread."""
        return super().submit(copy_context().run, do, *args, **kwargs)
