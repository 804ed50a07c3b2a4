"""One cache of compiled kernels among many processes, in folders that cannot be written, over sources that change."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import jobs
import pytest
from subprocesses import finish, python, start

from fastnn.kernels import compiler, options

ROOT = Path(__file__).parents[1]
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
UPDATE = "import jobs; print(jobs.update({!r}))"
TRAIN = "import jobs; print(jobs.train({!r}))"
BOTH = [pytest.param(UPDATE, id="update"), pytest.param(TRAIN, id="train", marks=pytest.mark.slow)]
MANY = [
    pytest.param(UPDATE, ("float32",) * 2, id="update"),
    *(
        pytest.param(code, ("float32", "float64") * 6, id=id, marks=pytest.mark.slow)
        for code, id in ((UPDATE, "update"), (TRAIN, "train"))
    ),
]


def install(folder):
    """A copy of the package below `folder`, as an installer would make it."""
    ignore = shutil.ignore_patterns("__pycache__", "kernels")  # a link, in an editable install
    shutil.copytree(ROOT / "fastnn", folder / "fastnn", ignore=ignore)
    shutil.copytree(ROOT / "kernels", folder / "fastnn" / "kernels", ignore=ignore)
    return folder


def works(*command):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        return done.returncode == 0
    except OSError:
        return False


def obedient(folder):
    """Prefix of a command for which the modes of files hold, root or not; `folder` is one that is not to be written."""
    probe = [sys.executable, "-c", f"open({str(folder / 'probe')!r}, 'w')"]
    for prefix in ([], ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]):
        if works(*prefix, sys.executable, "-c", "") and not works(*prefix, *probe):
            return prefix
        (folder / "probe").unlink(missing_ok=True)
    return pytest.skip("nothing here keeps this user from writing")


class ReadOnly:
    """A folder that cannot be written while the context lasts; gives the prefix of commands that mind it."""

    def __init__(self, folder):
        self.folder = folder
        self.all = [folder, *folder.rglob("*")]

    def __enter__(self):
        for path in self.all:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            return obedient(self.folder)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        for path in self.all:
            path.chmod(0o755 if path.is_dir() else 0o644)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def assert_whole(cache, code, dtypes=("float32", "float64")):
    """The cache holds one good file of each kernel for each dtype and nothing else."""
    assert {name[-4:] for name in names(cache)} == {".fnc"}
    for name, count in Counter(name.rpartition("-")[0] for name in names(cache)).items():
        assert count == (1 if name.startswith("prepare_") else len(dtypes)), name  # which takes float64 only
    for dtype in dtypes:
        assert python(code.format(dtype), FASTNN_CACHE_DIR=cache) == "0\n"


@pytest.mark.parametrize("code, dtypes", MANY)
def test_cold_processes_share_one_cache(code, dtypes, tmp_path):
    code = code.replace("jobs;", "jobs; jobs.wait();")
    with ExitStack() as stack:
        children = [stack.enter_context(start(code.format(dtype), FASTNN_CACHE_DIR=tmp_path)) for dtype in dtypes]
        try:
            assert [child.stdout.readline() for child in children] == ["ready\n"] * len(dtypes)
            for child in children:
                child.stdin.write("go\n")
                child.stdin.flush()
            for child in children:
                finish(child)
        finally:
            for child in children:
                child.kill()
    assert_whole(tmp_path, code.replace("jobs.wait();", ""), sorted(set(dtypes)))


@POSIX
@pytest.mark.parametrize("code", BOTH)
def test_an_installation_that_cannot_be_written(code, tmp_path):
    site, home = install(tmp_path / "site"), tmp_path / "home"
    before = names(site)
    code = f"import fastnn; assert fastnn.__file__.startswith({str(site)!r}); " + code.format("float32")
    own = dict(PYTHONPATH=site, HOME=home, FASTNN_CACHE_DIR=None, XDG_CACHE_HOME=None)
    with ReadOnly(site) as prefix:
        assert int(python(code, prefix, **own)) > 0
        assert python(code, prefix, **own) == "0\n"
    assert names(site) == before
    assert len(names(home)) > 1


@POSIX
def test_a_cache_that_cannot_be_written(tmp_path):
    with ReadOnly(tmp_path) as prefix:
        assert int(python(UPDATE.format("float32"), prefix, FASTNN_CACHE_DIR=tmp_path)) > 0
    assert names(tmp_path) == []


@POSIX
def test_a_filled_cache_that_cannot_be_written_is_read(good_file, tmp_path):
    name, whole = good_file
    (tmp_path / name).write_bytes(whole)
    with ReadOnly(tmp_path) as prefix:
        assert python(UPDATE.format("float32"), prefix, FASTNN_CACHE_DIR=tmp_path) == "0\n"
        (tmp_path / name).chmod(0o000)  # a file of somebody else
        assert int(python(UPDATE.format("float32"), prefix, FASTNN_CACHE_DIR=tmp_path)) > 0
    assert names(tmp_path) == [name]


@POSIX
def test_a_full_cache(tmp_path):
    mount = 'mount -t tmpfs -o size=4k,mode=700 none "$0" && exec "$@"'
    for flags in ("-m", "-rm"):  # the mount is seen by, and goes with, the process alone
        prefix = ["unshare", flags, "sh", "-c", mount, str(tmp_path)]
        if works(*prefix, "true"):
            break
    else:
        pytest.skip("no small file system can be mounted here")
    code = f"""
import errno, jobs, os
try:
    open({str(tmp_path / "probe")!r}, "wb").write(bytes(5000))
except OSError as error:
    assert error.errno == errno.ENOSPC
os.unlink({str(tmp_path / "probe")!r})
print(jobs.update(), os.listdir({str(tmp_path)!r}))
"""
    count, left = python(code, prefix, FASTNN_CACHE_DIR=tmp_path).split(maxsplit=1)
    assert int(count) > 0 and left == "[]\n"


@POSIX
def test_a_limit_on_the_size_of_files(tmp_path):
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); " + UPDATE.format("float32")
    assert int(python(code, FASTNN_CACHE_DIR=tmp_path)) > 0
    assert names(tmp_path) == []


@POSIX
def test_a_user_without_a_home(tmp_path):
    prefix = ["unshare", "--user", "--map-user=54321"]
    code = "import os; print(os.path.expanduser('~')); import fastnn; fastnn.show_versions(); "
    unknown = dict(HOME=None, FASTNN_CACHE_DIR=None, XDG_CACHE_HOME=None)
    if not works(*prefix, "true") or python("import os; print(os.path.expanduser('~'))", prefix, **unknown) != "~\n":
        pytest.skip("no user can be made up here")
    assert int(python(code + UPDATE.format("float32"), prefix, **unknown).splitlines()[-1]) > 0


def test_a_zip_file_is_not_cached(tmp_path):
    """Its sources cannot be seen, so that another version's kernels could be taken for its own."""
    site = install(tmp_path / "site")
    archive = shutil.make_archive(str(tmp_path / "app"), "zip", site, "fastnn")
    code = f"import fastnn; assert fastnn.__file__.startswith({archive!r}); " + UPDATE.format("float32")
    assert int(python(code, PYTHONPATH=archive, FASTNN_CACHE_DIR=tmp_path / "cache")) > 0
    assert not (tmp_path / "cache").exists()


CHANGES = {
    # formula: (its result, code that prints it)
    "sgd": (
        0.5,
        "import numpy as np, fastnn; from fastnn.kernels import cpu; {between}"
        "t = np.ones(1); cpu.sgd_update(t, np.ones(1), 0.5, 0.0); print(t[0])",
    ),
    "relu": (
        3.0,
        "import numpy as np, fastnn; {between}net = fastnn.Sequential([fastnn.Dense(1, 'relu')]).build(1); "
        "net.set_weights([np.ones((1, 1)), np.zeros(1)]); print(net.predict([[3.0]])[0, 0])",
    ),
}


@pytest.mark.parametrize("formula", ["sgd", pytest.param("relu", marks=pytest.mark.slow)])
def test_kernels_that_change_under_an_old_cache(formula, tmp_path):
    site, cache = install(tmp_path / "site"), tmp_path / "cache"
    file = site / "fastnn" / "kernels" / "formulas.py"
    old = file.read_text(encoding="utf-8")
    new, count = re.subn(
        rf"(def {formula}\(.*\n(?:.*\n)*?\s+return )(.*?)((?:, first, second)?\n)", r"\1(\2) * 2.0\3", old, count=1
    )
    assert count == 1
    result, code = CHANGES[formula]
    first, second = f"{result}\n", f"{2 * result}\n"
    own = dict(PYTHONPATH=site, FASTNN_CACHE_DIR=cache)

    # changed under a process that has imported the old ones and compiles only now
    later = f"open({str(file)!r}, 'w', encoding='utf-8').write({new!r}); "
    assert python(code.format(between=later), **own) == first
    files = names(cache)
    assert file.read_text(encoding="utf-8") == new

    assert python(code.format(between=""), **own) == second
    assert len(names(cache)) == 2 * len(files)
    file.write_text(old, encoding="utf-8")
    assert python(code.format(between=""), **own) == first  # by the files that were made under the new ones
    assert len(names(cache)) == 2 * len(files)


def flipped(whole):
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


DAMAGES = {
    "empty": lambda whole: b"",
    "nonsense": lambda whole: b"nonsense",
    "half": lambda whole: whole[: len(whole) // 2],
    "one byte short": lambda whole: whole[:-1],
    "one bit flipped": flipped,
    "zeros": lambda whole: bytes(len(whole)),
    "a folder": None,
}


def compilations(folder, monkeypatch):
    """How many a process has that uses this cache and no kernel yet: a new one, from the same source, stands for it."""
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(folder))
    return jobs.update("float32", compiler.jit(options.EXACT, public=True)(jobs.cpu.sgd_update.py_func))


@pytest.fixture(scope="module")
def good_file(tmp_path_factory):
    """(name, content) of the cache file of the update, from a process of its own."""
    cache = tmp_path_factory.mktemp("good")
    python(UPDATE.format("float32"), FASTNN_CACHE_DIR=cache)
    (file,) = cache.iterdir()
    return file.name, file.read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_file_does_no_harm(damage, good_file, tmp_path, monkeypatch):
    name, whole = good_file
    change = DAMAGES[damage]
    if change is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(change(whole))
    assert compilations(tmp_path, monkeypatch) > 0
    assert names(tmp_path) == [name]
    if change is not None:
        assert compilations(tmp_path, monkeypatch) == 0


def test_an_undamaged_cache_file_is_read(good_file, tmp_path, monkeypatch):
    """The test above rests on it."""
    name, whole = good_file
    (tmp_path / name).write_bytes(whole)
    assert compilations(tmp_path, monkeypatch) == 0
    assert python(UPDATE.format("float32"), FASTNN_CACHE_DIR=tmp_path) == "0\n"


@pytest.mark.slow
def test_a_damaged_file_of_the_compiled_loop(tmp_path):
    assert int(python(TRAIN.format("float32"), FASTNN_CACHE_DIR=tmp_path)) > 0
    (file,) = tmp_path.glob("run-*")
    file.write_bytes(file.read_bytes()[:-1000])
    assert int(python(TRAIN.format("float32"), FASTNN_CACHE_DIR=tmp_path)) > 0
    assert_whole(tmp_path, TRAIN, ["float32"])
