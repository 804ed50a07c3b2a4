"""Files and folders that nobody but the user and root can change: what is read from them may be run.

On Windows, where a status has no owners, nothing is checked: there the permissions of the folder alone protect it.
"""

import functools
import os
import secrets
import stat
from pathlib import Path

LARGEST = 1 << 26  # bytes of a file that is read; a kernel has less than one million


class UntrustedError(PermissionError):
    """Somebody else could change a file or a folder."""


def own_folder(folder: Path) -> Path:
    """The folder with its links resolved; it need not be there.

    Parameters
    ----------
    folder : Path
        Any.

    Returns
    -------
    Path
        Such that others can change neither what is in it nor what stands at this path.

    Raises
    ------
    UntrustedError
        Where they can.
    """
    folder = Path(os.path.realpath(folder))
    for place in (folder, *folder.parents):
        try:
            status = os.lstat(place)
        except OSError:  # not there
            continue
        if not _is_own(status.st_uid):
            raise UntrustedError(f"{place} belongs to another user")
        # in a folder such as /tmp others cannot rename what is ours
        if _others_write(status) and (place == folder or not status.st_mode & stat.S_ISVTX):
            raise UntrustedError(f"others can write to {place}")
    return folder


def read_own(path: Path) -> bytes | None:
    """Content of a file.

    Parameters
    ----------
    path : Path
        Of the file.

    Returns
    -------
    bytes or None
        None for what is no file, a larger one than any that is written here, or one that others can change.

    Raises
    ------
    UntrustedError
        Where others can change the folder.
    OSError
        Where it cannot be read.
    """
    place = own_folder(path.parent) / path.name
    flags = ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")  # the last: a pipe would wait for its other end
    handle = os.open(place, functools.reduce(int.__or__, (getattr(os, flag, 0) for flag in flags), os.O_RDONLY))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            return None
        if not _is_own(status.st_uid) or _others_write(status):
            return None
        with open(handle, "rb", closefd=False) as file:
            return file.read(LARGEST)
    finally:
        os.close(handle)


def write_own(path: Path, data: bytes) -> None:
    """Make the content of a file, by atomic rename, in a folder that is made where there is none.

    Parameters
    ----------
    path : Path
        Of the file.
    data : bytes
        Its content.

    Raises
    ------
    UntrustedError
        Where others can change the folder.
    OSError
        Where it cannot be written.
    """
    _make(own_folder(path.parent))
    folder = own_folder(path.parent)  # somebody else may have made it
    temporary = folder / f"{path.stem}-{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o644)) as file:
            file.write(data)
        os.replace(temporary, folder / path.name)
    finally:
        temporary.unlink(missing_ok=True)


def _make(folder):
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _is_own(user):
    return not hasattr(os, "geteuid") or user in (0, os.geteuid())


def _others_write(status):
    if not hasattr(os, "geteuid"):
        return False
    by_group = status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid, os.geteuid())
    return bool(by_group or status.st_mode & stat.S_IWOTH)


@functools.cache
def _is_own_group(group, user):
    """Whether a group has no other member than a user who is listed, and root.

    Many systems give each user such a group, and let it write to what its user makes.
    """
    import grp
    import pwd

    accounts = pwd.getpwall()
    users = {account.pw_name: account.pw_uid for account in accounts}
    try:
        members = {users.get(name) for name in grp.getgrgid(group).gr_mem}
    except KeyError:
        return False
    members |= {account.pw_uid for account in accounts if account.pw_gid == group}
    return members <= {0, user} and user in users.values()
