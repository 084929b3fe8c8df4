"""How much of the disk a sandbox's files take."""

import os
from pathlib import Path

from local.sandbox.disk import used_bytes

MIB = 1024 * 1024


def test_files_count_however_deep_they_lie(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"abcdefgh")
    deep.mkdir(parents=True)
    for folder in (tmp_path, deep):
        (folder / "file").write_bytes(os.urandom(MIB))

    assert 2 * MIB <= used_bytes(tmp_path) < 3 * MIB


def test_neither_holes_nor_what_links_lead_to_count(tmp_path: Path) -> None:
    outside, home = tmp_path / "outside", tmp_path / "home"
    outside.mkdir()
    home.mkdir()
    (outside / "file").write_bytes(os.urandom(MIB))
    (home / "link").symlink_to(outside)
    (home / "hole").touch()
    os.truncate(home / "hole", 100 * MIB)

    assert used_bytes(home) < MIB


def test_what_is_gone_takes_nothing(tmp_path: Path) -> None:
    assert used_bytes(tmp_path / "never") == 0
