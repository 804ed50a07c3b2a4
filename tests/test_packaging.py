"""What is built, and what of it a user's environment gets to see."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import fastnn

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SHIPPED = [
    "fastnn", "kernels", "tests", "asv_bench", "docs", "examples", ".ci",
    "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
    ".pre-commit-config.yaml",
]  # fmt: skip
OURS = re.compile(r"__pycache__|\.pyc$|^asv_bench/(env|html|results|node_modules|\.numba_cache)")


def tree(top):
    """Paths of the files in a copy of the repository that an sdist must hold."""
    files = (p for name in SHIPPED for p in [top / name, *(top / name).rglob("*")] if p.is_file())
    return {name for p in files if not OURS.search(name := p.relative_to(top).as_posix())}


def installed(name):
    """Where a wheel has the file that the repository has at `name`."""
    return f"fastnn/{name}" if name.startswith("kernels/") else name


def run_python(code, python=sys.executable, isolated=True, **keywords):
    """Run `code` in a fresh interpreter that warns of nothing and sees neither our path nor our folder."""
    command = [str(python), *(["-I"] if isolated else []), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **keywords)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """(sdist, wheel), the wheel built from the unpacked sdist, as an installer would."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tree(ROOT):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source]
    built = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def test_package_list_equals_the_tree():
    files = [file for top in ("fastnn", "kernels") for file in (ROOT / top).rglob("__init__.py")]
    names = {".".join(Path(installed(file.relative_to(ROOT).as_posix())).parts[:-1]) for file in files}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == names


def test_needs_numpy_and_numba_alone():
    names = [re.match(r"[\w-]+", need).group() for need in PROJECT["project"]["dependencies"]]
    assert sorted(names) == ["numba", "numpy"]


def test_version_stands_in_one_place():
    assert "version" not in PROJECT["project"]
    assigns = [
        path.relative_to(ROOT).as_posix()
        for top in ("fastnn", "kernels")
        for path in (ROOT / top).rglob("*.py")
        if re.search(r"^__version__\s*=", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert assigns == ["fastnn/_version.py"]
    assert f"\n## {fastnn.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_one_version_of_ruff():
    lint = PROJECT["project"]["optional-dependencies"]["lint"]
    (pinned,) = (need for need in lint if need.startswith("ruff"))
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"ruff==[\w.]+", hooks)) == {pinned}


def test_sdist_holds_the_tree(distributions):
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tree(ROOT) - names == set()


def test_wheel_holds_fastnn_alone(distributions):
    wheel = distributions[1]
    assert wheel.name == f"fastnn-{fastnn.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    sources = {installed(name) for name in tree(ROOT)}
    assert names == {name for name in sources if name.startswith("fastnn/") and name.endswith((".py", ".typed"))}


@pytest.fixture(scope="module")
def wheel_environment(distributions, tmp_path_factory):
    """(python, its site-packages) of an environment that shares everything with this one, but the repository."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run_python("import sysconfig; print(sysconfig.get_path('purelib'))", python).stdout.strip())
    with zipfile.ZipFile(distributions[1]) as archive:
        archive.extractall(site)  # a pure wheel needs no more
    # Python searches a folder named in a .pth file, but reads no .pth file in it: no editable install.
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "shared.pth").write_text("\n".join(sorted(shared)), encoding="utf-8")
    return python, site


def test_wheel_alone_trains(wheel_environment, tmp_path):
    python, site = wheel_environment
    code = f"""
import pathlib, sys
import numpy as np
import fastnn, fastnn.kernels

assert pathlib.Path({str(ROOT)!r}) not in map(pathlib.Path, sys.path)
for module in (fastnn, fastnn.kernels):
    assert pathlib.Path({str(site)!r}) in pathlib.Path(module.__file__).parents, module
X = np.random.default_rng(0).normal(size=(64, 3))
net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1, "sigmoid")], seed=0)
loss = net.fit(X, X[:, 0] > 0, optimizer=fastnn.SGD(0.5), epochs=50).loss
assert loss[-1] < loss[0], loss
"""
    ran = run_python(code, python, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr


def test_a_type_checker_reads_the_wheel(wheel_environment, tmp_path):
    """mypy --strict over a user's program finds every type that the program asserts, and the one mistake in it."""
    shutil.copyfile(ROOT / "tests" / "typed_program.py", tmp_path / "program.py")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache"]
    command += ["--python-executable", wheel_environment[0], "program.py"]
    checked = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=tmp_path)
    lines = (tmp_path / "program.py").read_text(encoding="utf-8").splitlines()
    wrong = [i for i, line in enumerate(lines, 1) if "# wrong" in line]
    found = [int(line.split(":")[1]) for line in checked.stdout.splitlines() if ": error: " in line]
    assert found == wrong, checked.stdout + checked.stderr


def test_kernels_is_refused_under_that_name():
    ran = run_python("import kernels", isolated=False, cwd=ROOT)
    assert ran.returncode != 0
    error = ran.stderr.strip().splitlines()[-1]
    assert error.startswith("ImportError") and "fastnn.kernels" in error


def test_import_compiles_nothing_and_starts_no_threads(tmp_path):
    code = """
import sys, threading
import numba
from numba.core import event

before = threading.active_count()
with event.install_recorder("numba:compile") as recorder:
    import fastnn, fastnn.kernels.cpu
assert not recorder.buffer, recorder.buffer
assert threading.active_count() == before
try:
    print(numba.threading_layer())
except ValueError:
    pass  # no parallel region has been entered
else:
    raise AssertionError("a thread pool is running")
extras = {"matplotlib", "tqdm", "sklearn", "torch", "pandas", "safetensors"} & set(sys.modules)
assert not extras, extras
"""
    ran = run_python(code, cwd=tmp_path, env={**os.environ, "FASTNN_CACHE_DIR": str(tmp_path / "cache")})
    assert ran.returncode == 0, ran.stderr
    assert not (tmp_path / "cache").exists()
