"""The rows that say which Python packages a template's sandboxes have."""

import json
from datetime import timedelta

from sandkeeper.adapters.dynamodb.items import Item, millis, pack, unpack
from sandkeeper.adapters.dynamodb.table import Table
from sandkeeper.model import utc_moment
from sandkeeper.ports import PackageList

KEPT = timedelta(days=30)


class DynamoPackageLists:
    """`PackageLists` on the table's `TEMPLATE#` rows."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def recall(self, template: str) -> PackageList | None:
        """See `PackageLists.recall`."""
        item = self._table.get(_key(template))
        if item is None:
            return None
        row = unpack(item)
        return PackageList(
            packages=json.loads(row["packages"]), run_count=row["runCount"], told_at=utc_moment(row["toldAt"])
        )

    def keep(self, template: str, known: PackageList) -> None:
        """See `PackageLists.keep`."""
        values = {
            "packages": json.dumps(dict(known.packages), separators=(",", ":")),
            "runCount": known.run_count,
            "toldAt": millis(known.told_at),
            "ttl": round((known.told_at + KEPT).timestamp()),
        }
        self._table.put(_key(template) | pack(values))


def _key(template: str) -> Item:
    return pack({"pk": f"TEMPLATE#{template}", "sk": "PACKAGES"})
