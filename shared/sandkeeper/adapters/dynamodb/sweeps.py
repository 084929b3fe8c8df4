"""The row that says how far the sweep through all sandboxes has come."""

from sandkeeper.adapters.dynamodb.items import pack, unpack
from sandkeeper.adapters.dynamodb.table import Table
from sandkeeper.ports import Sweep

_KEY = pack({"pk": "SWEEP", "sk": "SWEEP"})


class DynamoSweepStore:
    """`SweepStore` on the table's one `SWEEP` row."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self) -> Sweep:
        """See `SweepStore.read`. A row that is none of ours counts as no row."""
        row = unpack(self._table.get(_KEY) or {})
        token, seen = row.get("token"), row.get("seen")
        return Sweep(token, seen) if isinstance(token, str) and isinstance(seen, int) else Sweep()

    def write(self, sweep: Sweep) -> None:
        """See `SweepStore.write`."""
        self._table.put(_KEY | pack({"token": sweep.token, "seen": sweep.seen}))
