"""Everything public says what it takes and gives; what type checkers make of it is tested in test_packaging.py."""

import ast
import importlib.util
import inspect
from pathlib import Path

import pytest

import fastnn
from fastnn import plot
from fastnn.kernels import cpu, cuda

PUBLIC = {f"fastnn.{name}": getattr(fastnn, name) for name in fastnn.__all__}
PUBLIC |= {f"plot.{name}": getattr(plot, name) for name in plot.__all__}
PUBLIC |= {f"kernels.cpu.{name}": getattr(cpu, name) for name in cpu.__all__}
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
        signature = inspect.signature(function)
        bare = [p.name for p in signature.parameters.values() if p.name != "self" and p.annotation is p.empty]
        if signature.return_annotation is signature.empty:
            bare.append("what it returns")
        assert not bare, f"{called} has no annotation of {', '.join(bare)}"


def test_checkers_find_the_names_of_the_cuda_package_where_they_are_looked_up():
    tree = ast.parse(Path(cuda.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = [(name.asname, name.name, node.module) for node in block.body for name in node.names]
    assert sorted(seen) == [(name, name, cuda._HOMES[name]) for name in sorted(cuda.__all__)]
