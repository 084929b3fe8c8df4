"""envd: the files, file system and process services of a sandbox, as E2B's SDK calls them."""

from .app import Envd, create

__all__ = ["Envd", "create"]
