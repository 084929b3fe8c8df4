"""A file's, directory's or link's description, as envd gives it."""

import grp
import pwd
import stat
from pathlib import Path

from e2b.envd.filesystem import filesystem_pb as pb
from protobuf.wkt import Timestamp

from .. import metadata


def entry_info(path: Path) -> pb.EntryInfo:
    """The entry at `path`; for a link, the link itself with the type of what it leads to."""
    status = path.lstat()
    is_link = stat.S_ISLNK(status.st_mode)
    entry = pb.EntryInfo(
        name=path.name,
        type=_type(path, is_link=is_link),
        path=str(path),
        size=status.st_size,
        mode=stat.S_IMODE(status.st_mode),
        permissions=stat.filemode(status.st_mode),
        owner=_owner(status.st_uid),
        group=_group(status.st_gid),
        modified_time=Timestamp(
            seconds=status.st_mtime_ns // 1_000_000_000, nanos=status.st_mtime_ns % 1_000_000_000
        ),
        metadata={} if is_link else metadata.read(path),
        is_symlink=is_link,
    )
    if is_link:
        entry.symlink_target = str(path.readlink())
    return entry


def _type(path: Path, *, is_link: bool) -> pb.FileType:
    if path.is_dir():
        return pb.FileType.DIRECTORY
    if path.is_file():
        return pb.FileType.FILE
    return pb.FileType.SYMLINK if is_link else pb.FileType.UNSPECIFIED


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
