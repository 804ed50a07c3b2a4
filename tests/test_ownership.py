"""Compiled kernels are read only from folders that are the user's own: nobody else can have put code there."""

import hashlib
import os
import pickle
import time

import numba
import pytest
from subprocesses import python

from fastnn.kernels import cache, ownership

pytestmark = pytest.mark.skipif(os.name != "posix", reason="files have owners on POSIX systems only")
SOMEBODY = 54321


def give_away(path, monkeypatch):
    """Let a file or folder belong to somebody else."""
    if os.geteuid() == 0:
        os.chown(path, SOMEBODY, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)


@pytest.fixture
def file(tmp_path):
    """A kept file, two folders below one that is made for the test."""
    path = tmp_path / "parent" / "cache" / "kernel.fnc"
    ownership.write_own(path, b"code")
    return path


def at(path, level):
    return [path, path.parent, path.parent.parent][level]


FILE, FOLDER, PARENT = range(3)


@pytest.mark.parametrize(
    "level, mode",
    [
        (FILE, 0o666),
        (FILE, 0o664),
        (FOLDER, 0o777),
        (FOLDER, 0o770),
        (FOLDER, 0o1777),
        (PARENT, 0o777),
        (PARENT, 0o730),
    ],
)
def test_nothing_is_read_that_others_can_change(file, level, mode, monkeypatch):
    monkeypatch.setattr(ownership, "_is_own_group", lambda group, user: False)
    assert ownership.read_own(file) == b"code"
    at(file, level).chmod(mode)
    assert_untrusted(file, level, f"others can write to {at(file, level)}$")
    at(file, level).chmod(0o700)
    assert ownership.read_own(file) == b"code"


def assert_untrusted(file, level, reason):
    if level == FILE:  # it is made anew
        assert ownership.read_own(file) is None
        ownership.write_own(file, b"new")
        assert ownership.read_own(file) == b"new"
        ownership.write_own(file, b"code")
        return
    for use in (lambda: ownership.read_own(file), lambda: ownership.write_own(file, b"other")):
        with pytest.raises(ownership.UntrustedError, match=reason):
            use()


@pytest.mark.parametrize("sticky", [False, True])  # in a sticky folder others cannot rename it
@pytest.mark.parametrize("level", [FILE, FOLDER, PARENT])
def test_nothing_is_read_that_belongs_to_somebody_else(file, level, sticky, monkeypatch):
    if level == FILE and os.geteuid() != 0:
        pytest.skip("root alone can give a file away")
    if sticky:
        file.parent.parent.chmod(0o1777)
    give_away(at(file, level), monkeypatch)
    assert_untrusted(file, level, "belongs to another user$")


def test_ordinary_folders_are_trusted(file, monkeypatch):
    file.parent.parent.chmod(0o1777)  # as /tmp
    assert ownership.read_own(file) == b"code"
    link = file.parent.parent / "link"
    link.symlink_to(file.parent)
    assert ownership.read_own(link / file.name) == b"code"
    monkeypatch.setattr(ownership, "_is_own_group", lambda group, user: True)  # as many systems give each user one
    for level, mode in ((FILE, 0o664), (FOLDER, 0o2770), (PARENT, 0o775)):
        at(file, level).chmod(mode)
    assert ownership.read_own(file) == b"code"


def test_a_link_into_a_folder_of_others_is_not_followed(file, monkeypatch):
    other = file.parent.parent / "other"
    other.mkdir(mode=0o777)
    other.chmod(0o777)
    file.rename(other / file.name)
    file.symlink_to(other / file.name)
    with pytest.raises(OSError):
        ownership.read_own(file)
    link = file.parent.parent / "link"
    link.symlink_to(other)
    with pytest.raises(ownership.UntrustedError):
        ownership.read_own(link / file.name)


@pytest.mark.parametrize("members, accounts, own", [
    ([], [("me", 7, 70)], True),
    (["me"], [("me", 7, 1), ("root", 0, 0)], True),
    ([], [("me", 7, 70), ("you", 8, 70)], False),
    (["you"], [("me", 7, 70), ("you", 8, 1)], False),
    (["unlisted"], [("me", 7, 70)], False),
    ([], [("you", 8, 1)], False),
    (None, [("me", 7, 70)], False),
])  # fmt: skip
def test_a_group_is_the_users_own_if_nobody_else_is_in_it(members, accounts, own, monkeypatch):
    import grp
    import pwd

    def group(gid):
        if members is None:
            raise KeyError(gid)
        return grp.struct_group(("name", "x", gid, members))

    listed = [pwd.struct_passwd((name, "x", uid, gid, "", "/", "/")) for name, uid, gid in accounts]
    monkeypatch.setattr(grp, "getgrgid", group)
    monkeypatch.setattr(pwd, "getpwall", lambda: listed)
    assert ownership._is_own_group.__wrapped__(70, 7) is own


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_folders_that_are_made_are_the_users_alone(umask, tmp_path):
    file, before = tmp_path / "a" / "b" / "kernel.fnc", os.umask(umask)
    try:
        ownership.write_own(file, b"code")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (file.parent.parent, file.parent)] == [0o700, 0o700]
    assert file.stat().st_mode & 0o777 == 0o644 & ~umask
    assert ownership.read_own(file) == b"code"


def test_what_is_no_file_is_not_waited_for(file):
    pipe, folder, large = (file.with_name(name) for name in ("pipe", "folder", "large"))
    os.mkfifo(pipe, 0o600)
    folder.mkdir(mode=0o700)
    with open(large, "xb") as sparse:
        sparse.truncate(1 << 40)
    large.chmod(0o600)
    assert [ownership.read_own(path) for path in (pipe, folder, large)] == [None] * 3


class Evil:
    """Runs code where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def signed(payload):
    return hashlib.sha256(payload).digest() + payload


def test_a_pickle_in_a_folder_of_others_is_not_opened(file, tmp_path):
    mark = tmp_path / "it ran"
    file.write_bytes(signed(pickle.dumps(Evil(mark))))
    file.parent.chmod(0o777)
    with pytest.warns(UserWarning, match=f"because others can write to {file.parent}: "):
        assert cache.read_cache(file, lambda parts: parts) is None
    assert not mark.exists()
    file.parent.chmod(0o700)
    cache.read_cache(file, lambda parts: parts)
    assert mark.exists()  # the test can fail


@pytest.mark.parametrize("payload", [b"", b"no pickle", pickle.dumps(3), pickle.dumps((1, 2))[:-1]])
def test_garbage_with_a_right_digest_is_as_good_as_absent(file, payload):
    file.write_bytes(signed(payload))
    assert cache.read_cache(file, lambda parts: parts + ()) is None


UNTRUSTED = """
import warnings
warnings.simplefilter("default")
import fastnn, jobs
counts = [jobs.update(dtype) for dtype in ("float32", "float64")]
fastnn.show_versions()
print(all(counts))
"""


def test_who_has_no_trusted_folder_is_told_once_why_every_start_compiles(tmp_path):
    tmp_path.chmod(0o777)
    folder = tmp_path / "cache"
    out = python("import sys; sys.stderr = sys.stdout\n" + UNTRUSTED, FASTNN_CACHE_DIR=folder)
    assert out.count("compiled kernels are neither read nor kept, because others can write to") == 1
    assert f"none: others can write to {tmp_path}\n" in out and out.endswith("True\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", cache.SETTINGS)
def test_a_setting_of_numba_that_changes_the_code_has_files_of_its_own(setting, monkeypatch):
    before = cache.cache_file("kernel")
    assert before == cache.cache_file("kernel")
    monkeypatch.setattr(numba.config, setting, 77)
    assert cache.cache_file("kernel") != before


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    names = {
        "run-0123456789abcdef0123456789abcdef-0123456789abcdef.tmp": True,
        "run-0123456789abcdef0123456789abcdef-fedcba9876543210.tmp": False,  # being written
        "notes.tmp": True,
        "run-0123456789abcdef0123456789abcdef.fnc": True,
    }
    for name, old in names.items():
        (tmp_path / name).write_bytes(b"half")
        if old:
            long_ago = time.time() - 2 * cache.ABANDONED_SECONDS
            os.utime(tmp_path / name, (long_ago, long_ago))
    cache.write_cache(tmp_path / "other.fnc", b"")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*list(names)[1:], "other.fnc"}
