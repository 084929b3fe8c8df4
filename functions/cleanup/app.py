"""Ends expired sessions, every five minutes."""

from sandkeeper.handlers import CleanupHandler

handler = CleanupHandler()
