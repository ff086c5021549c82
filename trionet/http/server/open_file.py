"""Opening a file that a request names: only what lies below a folder, and is a regular file. For a worker thread.

A path from outside may be an attack. It is decoded once; what climbs out of the folder, by dots or by a link, is not
found; and what is opened is looked at again by its descriptor, since the path may have become another one meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from io import FileIO

__all__ = ["SMALL", "OpenedFile", "open_below", "open_regular"]

SMALL: Final = 16384
"""Bytes up to which a file is read at once, when it is opened: it leaves together with the head."""

_NOT_FOUND: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ENXIO}
)
"""What a path from outside can bring about; anything else is this machine's trouble."""

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a FIFO would wait for its writer


@dataclass(slots=True)
class OpenedFile:
    """A regular file.

    Attributes:
        file: To be closed.
        name: Its path, as it was opened.
        size: Bytes.
        modified: Nanoseconds since the epoch.
        data: All of it, if it is small.
    """

    file: FileIO
    name: str
    size: int
    modified: int
    data: bytes | None

    def close(self) -> None:
        """Close it."""
        self.file.close()


def open_below(root: str | os.PathLike[str], path: str) -> OpenedFile | None:
    """Open what a path of a URL names below the folder `root`; None if there is no such regular file.

    Args:
        root: A folder. It may be a link itself.
        path: Percent-encoded; a slash in front is that of the folder.

    Raises:
        OSError: `root` is not a folder, or this machine is in trouble: too many open files, a broken disk.
    """
    relative = unquote_to_bytes(path).removeprefix(b"/")
    if not relative or relative.startswith(b"/") or b"\0" in relative or b"\\" in relative:
        return None
    if b".." in relative.split(b"/"):
        return None
    folder = os.fsencode(os.path.realpath(root, strict=True))
    if not os.path.isdir(folder):
        raise NotADirectoryError(errno.ENOTDIR, "root is not a folder", os.fspath(root))
    try:
        real = os.path.realpath(os.path.join(folder, relative), strict=True)
        if not _is_below(folder, real) or relative.endswith(b"/"):
            return None
        return _open(real, within=folder)
    except OSError as exc:
        if exc.errno in _NOT_FOUND:
            return None
        raise


def open_regular(path: str | os.PathLike[str]) -> OpenedFile:
    """Open a regular file of the program's own choice.

    Raises:
        OSError: it cannot be opened, or is something other than a regular file.
    """
    opened = _open(os.fsencode(path), within=None)
    if opened is None:
        raise OSError(errno.EINVAL, "only a regular file can be sent", os.fspath(path))
    return opened


def _open(path: bytes, within: bytes | None) -> OpenedFile | None:
    if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened, which some devices take for an order
        return None
    file = open(os.open(path, _FLAGS), "rb", buffering=0)  # noqa: SIM115 - whoever called closes it
    try:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or (within is not None and not _still_below(within, file.fileno())):
            file.close()
            return None
        data = _read(file, status.st_size) if status.st_size <= SMALL else None
        return OpenedFile(file, os.fsdecode(path), status.st_size, status.st_mtime_ns, data)
    except BaseException:
        file.close()
        raise


def _read(file: FileIO, size: int) -> bytes | None:
    """All of a small file; None if it has become another one."""
    data = os.pread(file.fileno(), size + 1, 0)
    return data if len(data) == size else None


def _is_below(folder: bytes, path: bytes) -> bool:
    return path.startswith(folder if folder == b"/" else folder + b"/")


def _still_below(folder: bytes, fd: int) -> bool:
    """Whether the open file lies below the folder, also if links were changed while it was opened."""
    try:
        return _is_below(folder, os.readlink(b"/proc/self/fd/%d" % fd))
    except OSError:  # no /proc here: what was looked at before has to do
        return True
