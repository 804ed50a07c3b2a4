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
from fastnn.kernels.distribution import DISTRIBUTION

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RECIPE = (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")
SHIPPED = [
    "fastnn", "kernels", "tests", "asv_bench", "docs", "examples", "conda", ".ci",
    "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff",
    "CONTRIBUTING.md", "SECURITY.md", ".pre-commit-config.yaml",
]  # fmt: skip
OURS = re.compile(
    r"__pycache__|\.pyc$|^asv_bench/(env|html|results|node_modules|\.numba_cache)|^docs/(_build|generated)"
)


def tree(top):
    """Paths of the files in a copy of the repository that an sdist must hold."""
    files = (p for name in SHIPPED for p in [top / name, *(top / name).rglob("*")] if p.is_file())
    return {name for p in files if not OURS.search(name := p.relative_to(top).as_posix())}


def installed(name):
    """Where a wheel has the file that the repository has at `name`."""
    return f"fastnn/{name}" if name.startswith("kernels/") else name


def copy_tree(top):
    """Give a copy of the repository at `top`."""
    for name in tree(ROOT):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, top / name)
    return top


def build(source, out, *options):
    """(sdist, wheel) that `python -m build` makes of `source` in the folder `out`."""
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", out, source]
    built = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def names_in(sdist, wheel):
    """Sorted names of all that they hold."""
    with tarfile.open(sdist) as files, zipfile.ZipFile(wheel) as archive:
        return sorted(files.getnames()), sorted(archive.namelist())


def install(wheel, home):
    """(python, its site-packages) of an environment at `home` that has `wheel`, and all else from this one."""
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run_python("import sysconfig; print(sysconfig.get_path('purelib'))", python).stdout.strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)  # a pure wheel needs no more
    # Python searches a folder named in a .pth file, but reads no .pth file in it: no editable install.
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "shared.pth").write_text("\n".join(sorted(shared)), encoding="utf-8")
    return python, site


def run_python(code, python=sys.executable, isolated=True, **keywords):
    """Run `code` in a fresh interpreter that warns of nothing and sees neither our path nor our folder."""
    command = [str(python), *(["-I"] if isolated else []), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **keywords)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """(sdist, wheel), the wheel built from the unpacked sdist, as an installer would."""
    return build(copy_tree(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("dist"))


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
    assert f"\nversion: {fastnn.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'\n  version: "{fastnn.__version__}"\n' in RECIPE


def test_conda_needs_what_pip_needs():
    run = RECIPE.partition("  run:\n")[2].partition("\n\n")[0]
    needs = [line.removeprefix("    - ").replace(" ", "") for line in run.splitlines()]
    assert needs == ["python>=${{python_min}}", *PROJECT["project"]["dependencies"]]
    minimum = re.search(r'  python_min: "(.+)"', RECIPE)[1]
    assert PROJECT["project"]["requires-python"] == f">={minimum}"


def texts():
    """(path, text) of all that git would keep and that is no code of the kernels."""
    kinds = {".py", ".md", ".yml", ".yaml", ".toml", ".cff", ".json", ".sh", ""}
    for name in sorted(tree(ROOT)):
        if Path(name).suffix in kinds:
            yield name, (ROOT / name).read_text(encoding="utf-8")


def test_every_link_to_the_repository_is_that_of_the_project():
    source = PROJECT["project"]["urls"]["Source"].removeprefix("https://github.com/")
    links = re.compile(r"https://(?:raw\.githubusercontent|github)\.com/([\w-]+/fastnn[\w-]*)")
    assert {found for _, text in texts() for found in links.findall(text)} == {source}


def test_every_hint_installs_this_distribution():
    """`fastnn` on the package index is another program."""
    name = PROJECT["project"]["name"]
    assert name == DISTRIBUTION
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [(path, *found) for path, text in texts() for found in re.findall(r"(fastnn[\w-]*)\[([a-z\d,]+)\]", text)]
    assert asked and not [what for what in asked if what[1] != name or set(what[2].split(",")) - set(extras)]
    hints = [(path, extra) for path, text in texts() for extra in re.findall(r"pip_install\('(\w+)'\)", text)]
    assert len(hints) >= 10 and {extra for _, extra in hints} <= set(extras)
    wrong = [path for path, text in texts() if re.search(r"pip install (?:-U )?[\"']?fastnn(?!-numba)", text)]
    assert not wrong
    assert {"demo", "all"} <= set(extras)


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
    assert wheel.name == f"fastnn_numba-{fastnn.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    sources = {installed(name) for name in tree(ROOT)}
    kinds = (".py", ".pyi", ".typed")
    assert names == {name for name in sources if name.startswith("fastnn/") and name.endswith(kinds)}


@pytest.fixture(scope="module")
def wheel_environment(distributions, tmp_path_factory):
    """(python, its site-packages) of an environment with the wheel."""
    return install(distributions[1], tmp_path_factory.mktemp("installed") / "venv")


NO_LINKS = """
import os

def refuse(*arguments, **keywords):
    raise OSError("a privilege is missing")

os.symlink = refuse
"""


def editable(clone, before=""):
    """The python of an environment beside `clone`, a new copy of the repository, that has it installed for editing."""
    copy_tree(clone)
    built = run_python(f"{before}\nfrom setuptools import build_meta; build_meta.build_editable('..')", cwd=clone)
    assert built.returncode == 0, built.stderr
    (wheel,) = clone.parent.glob("*.whl")
    return install(wheel, clone.parent / "venv")[0]


@pytest.fixture(scope="module")
def linked(tmp_path_factory):
    """(clone, python) of an editable install in a clone that is named as the package is."""
    clone = tmp_path_factory.mktemp("editable") / "fastnn"
    python = editable(clone)
    if os.name == "nt" and not (clone / "fastnn" / "kernels").is_symlink():
        pytest.skip("this user may make no symbolic links")
    return clone, python


def check_imports(clone, python, *folders):
    """All that `clone` holds is imported from there, in each of `folders`, and so is a file that is new in it."""
    (clone / "kernels" / "cpu" / "later.py").write_text("ANSWER = 42\n", encoding="utf-8")
    code = """
import fastnn, fastnn.kernels, fastnn.kernels.cpu
from fastnn.kernels.cpu import dense_forward, later

assert callable(fastnn.Sequential) and later.ANSWER == 42
print(fastnn.__file__, fastnn.kernels.__file__, later.__file__, sep="\\n")
"""
    files = ["fastnn/__init__.py", "kernels/__init__.py", "kernels/cpu/later.py"]
    for folder in folders:
        ran = run_python(code, python, isolated=False, cwd=folder)
        assert ran.returncode == 0, f"in {folder}: {ran.stderr}"
        assert [Path(line).resolve() for line in ran.stdout.splitlines()] == [(clone / f).resolve() for f in files]
    (clone / "kernels" / "cpu" / "later.py").unlink()


def test_an_editable_install_is_found_from_every_folder(linked, tmp_path):
    """Also from the one above the clone, where Python sees a folder with the name of the package."""
    clone, python = linked
    check_imports(clone, python, clone, clone.parent, tmp_path)


def test_an_editable_install_without_symbolic_links(tmp_path):
    clone, elsewhere = tmp_path / "fastnn", tmp_path / "elsewhere"
    elsewhere.mkdir()
    python = editable(clone, NO_LINKS)
    assert not (clone / "fastnn" / "kernels").exists()
    check_imports(clone, python, clone, elsewhere)


def test_an_editable_install_changes_no_distribution(linked, distributions, tmp_path):
    assert names_in(*build(linked[0], tmp_path, "--sdist", "--wheel")) == names_in(*distributions)


def test_what_stands_where_the_link_belongs_is_named(tmp_path):
    clone = copy_tree(tmp_path / "clone")
    (clone / "fastnn" / "kernels").mkdir()
    ran = run_python("from setuptools import build_meta; build_meta.build_editable('..')", cwd=clone)
    assert ran.returncode != 0 and "fastnn/kernels must be a link to ../kernels" in ran.stderr


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


@pytest.fixture(scope="module")
def checked_before(tmp_path_factory):
    """Folder where mypy keeps what it found out about NumPy."""
    return tmp_path_factory.mktemp("mypy")


def check_types(python, tmp_path, checked_before):
    """mypy --strict over a user's program finds every type that the program asserts, and the mistakes in it alone."""
    shutil.copyfile(ROOT / "tests" / "typed_program.py", tmp_path / "program.py")
    # no type of fastnn comes from these, and mypy takes five times as long to read them as all else
    (tmp_path / "mypy.ini").write_text("[mypy]\n[mypy-torch.*,optuna.*]\nfollow_imports = skip\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", checked_before]
    command += ["--python-executable", python, "program.py"]
    checked = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=tmp_path)
    lines = (tmp_path / "program.py").read_text(encoding="utf-8").splitlines()
    wrong = [i for i, line in enumerate(lines, 1) if "# wrong" in line]
    found = [int(line.split(":")[1]) for line in checked.stdout.splitlines() if ": error: " in line]
    assert found == wrong, checked.stdout + checked.stderr


@pytest.mark.slow  # .ci/run has both beside the linter
def test_a_type_checker_reads_the_wheel(wheel_environment, tmp_path, checked_before):
    check_types(wheel_environment[0], tmp_path, checked_before)


@pytest.mark.slow
def test_a_type_checker_reads_an_editable_install(linked, tmp_path, checked_before):
    check_types(linked[1], tmp_path, checked_before)


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
extras = {"matplotlib", "tqdm", "sklearn", "torch", "pandas", "safetensors", "hypothesis"} & set(sys.modules)
assert not extras, extras
"""
    ran = run_python(code, cwd=tmp_path, env={**os.environ, "FASTNN_CACHE_DIR": str(tmp_path / "cache")})
    assert ran.returncode == 0, ran.stderr
    assert not (tmp_path / "cache").exists()
