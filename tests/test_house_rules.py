"""The rules of CONTRIBUTING.md that a machine can check, read from the sources."""

import ast
import functools
import inspect
import sys
from pathlib import Path

import pytest

import fastnn
import fastnn.kernels.cpu

ROOT = Path(__file__).parents[1]
LINES = 450
MADE = ("asv_bench/env/", "asv_bench/node_modules/")
JIT_NAMES = {"jit", "njit", "vectorize", "guvectorize", "cfunc", "stencil", "generated_jit"}
JIT_OPTIONS = {
    "fastmath", "nogil", "error_model", "parallel", "boundscheck", "nopython", "forceobj", "looplift",
    "inline", "no_cpython_wrapper", "no_cfunc_wrapper", "locals",
}  # fmt: skip


def sources(*tops):
    files = (path for top in tops for path in (ROOT / top).rglob("*.py"))
    return sorted(path for path in files if not name_of(path).startswith(MADE))


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@functools.cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), name_of(path))


def statements(tree, functions=True):
    """Every node in `tree`; without functions, only what runs at import."""
    pending = [tree]
    while pending:
        node = pending.pop(0)
        yield node
        for_checkers = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if functions or not (for_checkers or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            pending.extend(ast.iter_child_nodes(node))


def imported(path, tree, functions=True):
    """Absolute names of the modules, and of what is taken from them, that the statements in `tree` import."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    if package and package[0] == "kernels":
        package.insert(0, "fastnn")
    for node in statements(tree, functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def inside(name, package):
    return name == package or name.startswith(package + ".")


def test_imports_of_this_file_are_resolved():
    """The rules below rest on it."""
    tree = ast.parse("import a.b\nfrom . import c\nfrom .. import d\nfrom .e import f\ndef g():\n import h as i")
    path = ROOT / "kernels" / "cpu" / "x.py"
    names = ["a.b", "fastnn.kernels.cpu.c", "fastnn.kernels.d", "fastnn.kernels.cpu.e.f"]
    assert list(imported(path, tree, functions=False)) == names
    assert list(imported(path, tree)) == [*names, "h"]


def test_kernels_know_nothing_of_fastnn():
    allowed = {"numpy", "numba", "llvmlite", *sys.stdlib_module_names}
    wrong = [
        (name_of(path), name)
        for path in sources("kernels")
        for name in imported(path, parse(path))
        if not inside(name, "fastnn.kernels") and name.partition(".")[0] not in allowed
    ]
    wrong.remove(("kernels/cuda/toolchain.py", "cuda.core.Device"))  # which numba-cuda needs, too
    absolute = [
        (name_of(path), node.lineno)
        for path in sources("kernels")
        for node in ast.walk(parse(path))
        if (isinstance(node, ast.ImportFrom) and not node.level and inside(node.module, "fastnn"))
        or (isinstance(node, ast.Import) and any(inside(alias.name, "fastnn") for alias in node.names))
    ]
    assert not wrong
    assert not absolute


def test_backends_alone_imports_the_kernels():
    importers = {
        name_of(path)
        for path in sources("fastnn")
        for name in imported(path, parse(path))
        if inside(name, "fastnn.kernels")
    }
    assert importers == {"fastnn/backends.py"}


def test_import_of_fastnn_needs_numpy_and_numba_alone():
    allowed = {"numpy", "numba", "fastnn", *sys.stdlib_module_names}
    wrong = [
        (name_of(path), name)
        for path in sources("fastnn")
        if path.name != "__main__.py"
        for name in imported(path, parse(path), functions=False)
        if name.partition(".")[0] not in allowed
    ]
    assert not wrong


def test_tests_and_benchmarks_stay_outside():
    wrong = [
        (name_of(path), name)
        for path in sources("fastnn", "kernels")
        for name in imported(path, parse(path))
        if name.partition(".")[0] in {"tests", "reference", "asv_bench", "kernels"}
    ]
    assert not wrong


def test_compiler_alone_chooses_how_to_compile():
    wrong = []
    for path in sources("fastnn", "kernels"):
        if name_of(path) == "kernels/compiler.py":
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call):
                options = {k.arg for k in node.keywords} & JIT_OPTIONS
                wrong += [(name_of(path), node.lineno, f"{option}=") for option in sorted(options)]
            elif isinstance(node, ast.Attribute) and node.attr in JIT_NAMES:
                if isinstance(node.value, ast.Name) and node.value.id in {"numba", "nb"}:
                    wrong.append((name_of(path), node.lineno, node.attr))
            elif isinstance(node, ast.ImportFrom) and node.module and inside(node.module, "numba"):
                names = {alias.name for alias in node.names} & JIT_NAMES
                wrong += [(name_of(path), node.lineno, name) for name in sorted(names)]
    assert not wrong


def test_five_files_write_llvm():
    importers = {
        (name_of(path), name)
        for path in sources("fastnn", "kernels")
        for name in imported(path, parse(path))
        if inside(name, "llvmlite")
    }
    writers = {f"kernels/cpu/{name}.py" for name in ("memory", "registers", "simd", "tile")}
    writers.add("kernels/cuda/intrinsics.py")
    choices = {("kernels/compiler.py", "llvmlite.binding")}
    assert importers == {(name, "llvmlite.ir") for name in writers} | choices


def test_files_are_short():
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources("fastnn", "kernels", "tests", "asv_bench", "examples")
    }
    assert not {name: length for name, length in lengths.items() if length > LINES}


def public_objects():
    """(qualified name, function or class) of all that takes arguments in the public API, methods too."""
    for module in (fastnn, fastnn.plot, fastnn.kernels.cpu):
        for name in module.__all__:
            thing = getattr(module, name)
            if not callable(thing) or (inspect.isclass(thing) and issubclass(thing, BaseException)):
                continue
            yield f"{module.__name__}.{name}", thing
            if inspect.isclass(thing):
                for method, plain in vars(thing).items():
                    plain = getattr(plain, "__func__", plain)
                    if inspect.isfunction(plain) and not method.startswith("_"):
                        yield f"{module.__name__}.{name}.{method}", plain


def documented(docstring):
    """Names in the section Parameters of a numpydoc docstring, in order."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    rules = [i for i, line in enumerate(lines) if i and line and set(line) == {"-"}]
    for at, rule in enumerate(rules):
        if lines[rule - 1] == "Parameters":
            end = rules[at + 1] - 1 if at + 1 < len(rules) else len(lines)
            entries = [line for line in lines[rule + 1 : end] if line and not line[0].isspace()]
            names = [name for line in entries for name in line.partition(" : ")[0].split(",")]
            return [name.strip().lstrip("*") for name in names]
    return []


def test_parameters_section_is_read():
    """The test below rests on it."""

    def example(a, b, *c, d=1):
        """Do something.

        Parameters
        ----------
        a, b : array (m, n)
            Operands.
        *c
            More.
        d : int
            Last.

        Returns
        -------
        x : int
        """

    assert documented(example.__doc__) == list(inspect.signature(example).parameters)


@pytest.mark.parametrize("thing", [pytest.param(thing, id=name) for name, thing in public_objects()])
def test_documented_parameters_equal_the_signature(thing):
    signature = inspect.signature(getattr(thing, "py_func", thing))
    taken = [name for name in signature.parameters if name not in ("self", "cls")]
    assert documented(thing.__doc__) == taken
