"""The rules of CONTRIBUTING.md that a machine can check, read from the sources."""

import ast
import functools
import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

import fastnn
import fastnn.kernels.cpu
import fastnn.mpi

PUBLIC = [fastnn, fastnn.mpi, fastnn.plot, fastnn.studies, fastnn.kernels.cpu]
if importlib.util.find_spec("sklearn") is not None:
    import fastnn.sklearn

    PUBLIC.append(fastnn.sklearn)

ROOT = Path(__file__).parents[1]
LINES = 60  # of a function, without its docstring and the functions inside it
ARGUMENTS = 16  # of a kernel
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
    core = "Device", "LaunchConfig", "Stream", "launch"
    needed = "cuda.bindings.driver", *(f"cuda.core.{name}" for name in core)  # of what numba-cuda needs, too
    assert [wrong.pop(0) for _ in needed] == [("kernels/cuda/toolchain.py", name) for name in needed]
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
    estimators = sources("fastnn/sklearn")  # which nothing else imports
    wrong = [
        (name_of(path), name)
        for path in sources("fastnn")
        if path.name != "__main__.py"
        for name in imported(path, parse(path), functions=False)
        if name.partition(".")[0] not in (allowed | {"scipy", "sklearn"} if path in estimators else allowed)
        or (inside(name, "fastnn.sklearn") and path not in estimators)
    ]
    assert estimators and not wrong


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


def test_six_files_write_llvm():
    importers = {
        (name_of(path), name)
        for path in sources("fastnn", "kernels")
        for name in imported(path, parse(path))
        if inside(name, "llvmlite")
    }
    writers = {f"kernels/cpu/{name}.py" for name in ("amx", "memory", "registers", "simd", "tile")}
    writers.add("kernels/cuda/intrinsics.py")
    choices = {(f"kernels/{name}.py", "llvmlite.binding") for name in ("compiler", "symbols")}
    assert importers == {(name, "llvmlite.ir") for name in writers} | choices


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def lines_of(function):
    """Lines of a function of its own."""
    docstring = function.body[0] if ast.get_docstring(function) else None
    apart = [*functions_inside(function), *([docstring] if docstring else [])]
    return function.end_lineno - function.lineno + 1 - sum(node.end_lineno - node.lineno + 1 for node in apart)


def functions_inside(node):
    """The outermost functions inside a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
        else:
            yield from functions_inside(child)


def test_lines_are_counted_right():
    """The rule below rests on it."""
    text = 'def a(x):\n """one\n two"""\n def b():\n  return 1\n return b\n'
    (a, b) = functions(ast.parse(text))
    assert (lines_of(a), lines_of(b)) == (2, 2)


def test_functions_are_short():
    lengths = {
        f"{name_of(path)}: {function.name}": lines_of(function)
        for path in sources("fastnn", "kernels", "tests", "asv_bench", "examples")
        for function in functions(parse(path))
    }
    assert not {name: length for name, length in lengths.items() if length > LINES and name not in LONG}


_STRIDES = "arrays of any strides in both dimensions, and no structures that a kernel could take instead"
# "file: function", and why it may be longer, or take more arguments
LONG = {
    "kernels/cuda/tensor.py: tensor_product": "stages of a pipeline, which share all its registers",
    "kernels/cuda/step.py: run": "phases of a step between barriers of the whole grid, which a kernel alone can have",
}
MANY_ARGUMENTS = {
    "kernels/cpu/losses.py: _unknown": _STRIDES,
    "kernels/cpu/losses.py: summed": _STRIDES,
    "kernels/cuda/async_tile.py: product": _STRIDES,
    "kernels/cuda/hopper.py: wgmma_product": _STRIDES,
    "kernels/cuda/losses.py: losses": _STRIDES,
    "kernels/cuda/skinny.py: rows": _STRIDES,
    "kernels/cuda/tensor.py: tensor_product": _STRIDES,
    "kernels/cuda/tile.py: product": _STRIDES,
    "kernels/cuda/tiling.py: finish": _STRIDES,
    "kernels/cuda/updates.py: update": "one launch for all parameters and settings of a rule",
}


def test_kernels_take_few_arguments():
    counts = {
        f"{name_of(path)}: {function.name}": len([*function.args.posonlyargs, *function.args.args])
        for path in sources("kernels")
        for function in functions(parse(path))
    }
    assert not {name: count for name, count in counts.items() if count > ARGUMENTS and name not in MANY_ARGUMENTS}


def public_objects():
    """(qualified name, function or class) of all that takes arguments in the public API, methods too."""
    for module in PUBLIC:
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
