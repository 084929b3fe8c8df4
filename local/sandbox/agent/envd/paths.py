"""Paths as callers write them: absolute, or relative to the user's home."""

import os
from pathlib import Path

# The sandbox has one user; `root` is what E2B's examples name besides, and it is the same here.
USERS = ("user", "root")


class UnknownUserError(ValueError):
    """The sandbox has no such user."""


class Paths:
    """Resolves the paths of requests."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def resolve(self, path: str, user: str | None = None) -> Path:
        """The absolute path, links untouched; `~` and the empty path are the home."""
        if user and user not in USERS:
            raise UnknownUserError(f"user {user!r} does not exist here; leave it out or use 'user'")
        if path == "~" or path.startswith("~/"):
            path = path[2:]
        return Path(os.path.normpath(self.home / path))
