"""Ends expired sessions, every five minutes."""

import gc

gc.disable()  # next to nothing of what a start makes is garbage: see `end_of_start`

from sandkeeper.handlers import CleanupHandler  # noqa: E402 - what this imports is what it is about

handler = CleanupHandler()
