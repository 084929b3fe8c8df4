"""What the operating system's errors mean to a caller, in HTTP's and in Connect's words."""

import errno

_HTTP = {
    errno.ENOENT: 404,
    errno.EISDIR: 400,
    errno.ENOTDIR: 400,
    errno.EINVAL: 400,
    errno.ENAMETOOLONG: 400,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EROFS: 403,
    errno.ENOSPC: 507,
    errno.EDQUOT: 507,
}

_CONNECT = {
    errno.ENOENT: "not_found",
    errno.EEXIST: "already_exists",
    errno.EISDIR: "invalid_argument",
    errno.ENOTDIR: "invalid_argument",
    errno.EINVAL: "invalid_argument",
    errno.ENAMETOOLONG: "invalid_argument",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.EROFS: "permission_denied",
}


def http_status(reason: OSError) -> int:
    return _HTTP.get(reason.errno or 0, 500)


def connect_code(reason: OSError) -> str:
    return _CONNECT.get(reason.errno or 0, "internal")


def message(reason: OSError) -> str:
    """`'/home/user/x': No such file or directory`."""
    return f"{reason.filename!r}: {reason.strerror}" if reason.filename else str(reason)
