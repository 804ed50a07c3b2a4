"""Everything public says what it takes and gives; what type checkers make of it is tested in test_packaging.py."""

import inspect

import pytest

import fastnn
from fastnn import plot
from fastnn.kernels import cpu

PUBLIC = {f"fastnn.{name}": getattr(fastnn, name) for name in fastnn.__all__}
PUBLIC |= {f"plot.{name}": getattr(plot, name) for name in plot.__all__}
PUBLIC |= {f"kernels.cpu.{name}": getattr(cpu, name) for name in cpu.__all__}


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
