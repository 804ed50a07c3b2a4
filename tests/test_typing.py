"""Everything public says what it takes and gives; what type checkers make of it is tested in test_packaging.py."""

import ast
import importlib.util
import inspect
from pathlib import Path

import pytest

import fastnn
from fastnn import mpi, plot, studies
from fastnn.kernels import cpu, cuda

PUBLIC = {f"fastnn.{name}": getattr(fastnn, name) for name in fastnn.__all__}
PUBLIC |= {f"mpi.{name}": getattr(mpi, name) for name in mpi.__all__}
PUBLIC |= {f"plot.{name}": getattr(plot, name) for name in plot.__all__}
PUBLIC |= {f"studies.{name}": getattr(studies, name) for name in studies.__all__}
PUBLIC |= {f"kernels.cpu.{name}": getattr(cpu, name) for name in cpu.__all__}
if importlib.util.find_spec("sklearn") is not None:
    from fastnn import sklearn

    PUBLIC |= {f"sklearn.{name}": getattr(sklearn, name) for name in sklearn.__all__}
if importlib.util.find_spec("numba_cuda") is not None:
    PUBLIC |= {f"kernels.cuda.{name}": getattr(cuda, name) for name in cuda.__all__}


def functions(name, thing):
    """(name, function) of everything in a public thing that can be called."""
    if inspect.isclass(thing):
        for attribute, value in inspect.getmembers(thing):
            value = getattr(value, "fget", value)
            own = inspect.isfunction(value) and (value.__module__ or "").startswith("fastnn")
            if own and (attribute == "__init__" or not attribute.startswith("_")):
                yield f"{name}.{attribute}", value
    elif callable(thing):
        yield name, getattr(thing, "py_func", thing)


@pytest.mark.parametrize("name", [name for name, thing in PUBLIC.items() if not isinstance(thing, str)])
def test_everything_public_is_annotated(name):
    for called, function in functions(name, PUBLIC[name]):
        names = [*inspect.signature(function).parameters, "return"]
        known = inspect.unwrap(function).__annotations__  # which a short signature leaves out
        bare = [name for name in names if name not in known and name != "self"]
        assert not bare, f"{called} has no annotation of {', '.join(bare)}"


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="no numba-cuda")
def test_the_stub_of_the_cuda_package_says_where_its_names_stand():
    tree = ast.parse(Path(cuda.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert sorted(name.asname for node in imports for name in node.names) == sorted(cuda.__all__)
    for node in imports:
        module = importlib.import_module(f"{cuda.__name__}.{node.module}")
        assert all(getattr(module, name.name) is getattr(cuda, name.asname) for name in node.names)
