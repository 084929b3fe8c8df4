"""`make api-key`: gives out API keys of a stage, lists them, takes them back."""

import sys
from collections.abc import Sequence
from typing import Any

from sandkeeper.adapters.dynamodb import DynamoApiKeyStore, Table
from sandkeeper.model import ApiKey, utc_now
from sandkeeper.services.api_keys import ApiKeys, id_of

GIVEN = """\
This is the only time that the key is shown: its table keeps a hash. It speaks for {owner!r}; send it as
`Authorization: Bearer sk_…`.
"""


def api_keys(dynamodb: Any, table: str) -> ApiKeys:
    """The API keys in a table."""
    return ApiKeys(DynamoApiKeyStore(Table(dynamodb, table)), utc_now)


def give(keys: ApiKeys, owner: str, name: str) -> None:
    """Prints a new key, alone on standard output, so that a program can take it from there."""
    print(keys.give(owner, name), flush=True)
    print(GIVEN.format(owner=owner), file=sys.stderr, end="")


def show(keys: Sequence[ApiKey]) -> None:
    """Prints what is known of the keys: never more than the beginning of a hash."""
    rows = [("ID", "OWNER", "NAME", "GIVEN", "LAST USED")]
    rows += [
        (id_of(key), key.owner, key.name, key.created_at.date().isoformat(), key.last_used_day or "never")
        for key in keys
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())


def revoke(keys: ApiKeys, named: str) -> None:
    """Takes a key back, and says which."""
    key = keys.revoke(named)
    print(f"{id_of(key)} of {key.owner!r} is revoked; within a minute nobody takes it any more")
