"""`SandboxProvider.packages`, in memory, and through E2B's SDK on the local sandbox server."""

import pytest

from sandkeeper.errors import SandboxUnavailable
from sandkeeper.model import SandboxRef
from sandkeeper.ports import SandboxGone, SandboxProvider
from tests.contract.sandboxes import (
    FIVE_MINUTES,
    TEN_SECONDS,
    InMemory,
    OnTheLocalServer,
    Pause,
    create,
    printed,
    ran,
)


class PackagesContract:
    """The cases; a subclass gives `provider`, `pause`, and `live`: a sandbox that tests may share."""

    def test_packages_are_told_with_their_versions(self, provider: SandboxProvider, live: SandboxRef) -> None:
        told = provider.packages(live)

        assert {"numpy", "pandas"} <= told.keys()
        assert all(version[0].isdigit() for version in told.values())

    def test_a_paused_sandbox_is_not_woken(self, provider: SandboxProvider, live: SandboxRef, pause: Pause) -> None:
        pause(live)

        for _ in range(2):
            with pytest.raises(SandboxGone):
                provider.packages(live)

        provider.connect(live.sandbox_id, FIVE_MINUTES, within=TEN_SECONDS)

    def test_a_sandbox_that_is_gone_is_told_as_gone(self, provider: SandboxProvider) -> None:
        killed = create(provider)
        provider.kill(killed.sandbox_id)

        with pytest.raises(SandboxGone):
            provider.packages(killed)


class TestInMemory(InMemory, PackagesContract):
    pass


class TestOnTheLocalServer(OnTheLocalServer, PackagesContract):
    def test_they_are_those_of_the_kernel(self, provider: SandboxProvider, live: SandboxRef) -> None:
        code = "import importlib.metadata as m; print(m.version('pandas'), m.version('ipykernel'))"

        pandas, ipykernel = printed(ran(provider, live, code)).split()

        told = provider.packages(live)
        assert (told["pandas"], told["ipykernel"]) == (pandas, ipykernel)

    def test_what_code_installs_is_told_in_place_of_what_there_was(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        code = """
import pathlib, site
for name, version in (("own-package", "1.2.3"), ("pandas", "99.0")):
    folder = pathlib.Path(site.getusersitepackages(), f"{name.replace('-', '_')}-{version}.dist-info")
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
"""
        ran(provider, live, code)

        told = provider.packages(live)

        assert (told["own-package"], told["pandas"]) == ("1.2.3", "99.0")

    def test_a_users_files_do_not_stand_for_modules(self, provider: SandboxProvider, live: SandboxRef) -> None:
        provider.write_file(live, "/home/user/json.py", [b"raise SystemExit('not this one')"])

        assert "pandas" in provider.packages(live)

    @pytest.mark.parametrize("says", ["", "no JSON", "[1]", '"text"', "[" * 100_000], ids=lambda says: says[:9])
    def test_a_python_that_is_none_is_no_answer(self, provider: SandboxProvider, says: str) -> None:
        forged = create(provider)
        provider.write_file(forged, "/home/user/says", [says.encode()])
        provider.write_file(forged, "/home/user/.local/bin/python3", [b"#!/bin/sh\nexec cat /home/user/says\n"])
        ran(provider, forged, "import os; os.chmod('/home/user/.local/bin/python3', 0o755)")

        with pytest.raises(SandboxUnavailable):
            provider.packages(forged)

        provider.kill(forged.sandbox_id)
