"""The server's folder."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.sandbox.folder import PathTooLongError, own_folder


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder with a short name, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="sk-") as folder:
        yield Path(folder)


def test_a_folder_is_removed_at_the_end_also_after_an_error(data_dir: Path) -> None:
    with pytest.raises(ZeroDivisionError), own_folder(data_dir) as folder:
        (folder / "file").touch()
        raise ZeroDivisionError
    assert list(data_dir.iterdir()) == []


def test_the_folder_of_a_dead_server_is_removed_and_that_of_a_living_one_kept(data_dir: Path) -> None:
    (data_dir / "dead" / "home").mkdir(parents=True)
    with own_folder(data_dir) as one, own_folder(data_dir) as two:
        assert set(data_dir.iterdir()) == {one, two}


def test_a_path_too_long_for_sockets_is_refused(data_dir: Path) -> None:
    with pytest.raises(PathTooLongError, match="--data-dir"), own_folder(data_dir / ("x" * 90)):
        pass
