"""What is known of templates' packages in memory."""

from sandkeeper.ports import PackageList


class MemoryPackageLists:
    """`PackageLists` in a dictionary."""

    def __init__(self) -> None:
        self.known: dict[str, PackageList] = {}

    def recall(self, template: str) -> PackageList | None:
        """See `PackageLists.recall`."""
        return self.known.get(template)

    def keep(self, template: str, known: PackageList) -> None:
        """See `PackageLists.keep`."""
        self.known[template] = known
