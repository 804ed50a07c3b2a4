"""Kernels as users' compiled functions call them: by a symbol, a name that LLVM looks up when it links.

Numba would make the kernel part of every function that calls it, and of all that call these, and optimise it anew in
each: a training step in four functions took a minute to compile, and takes about seven seconds. What Numba keeps on
disk of a function (`cache=True`) has its Symbols among the constants, which are there again before another process
links it.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from llvmlite import binding
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from .cache import SOURCES
from .threads import uninterrupted


def of_any_strides(kind: types.Type) -> types.Type:
    """The type of arrays like one of a type, whatever their strides; of what is no array, the type itself."""
    return types.Array(kind.dtype, kind.ndim, "A") if isinstance(kind, types.Array) else kind


def address_of_kernel(dispatcher: Any, signature: Any) -> int:
    """Address of a compiled function, made for a signature or loaded from the cache, by Numba's calling convention."""

    def compiled():
        dispatcher.compile(signature)
        result = dispatcher.overloads[signature.args]
        return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))

    return uninterrupted(compiled)


class Symbol:
    """A kernel for some types, by a name that the linker knows.

    Parameters
    ----------
    module, name : str
        Where the public kernel stands.
    kinds : Numba signature
        Types of its arguments and of its result.
    """

    def __init__(self, module: str, name: str, kinds: Any) -> None:
        self._facts = module, name, kinds
        self.name = f"{module}.{name}{kinds} {SOURCES}"
        kernel = getattr(importlib.import_module(module), name).kernel
        binding.add_symbol(self.name, address_of_kernel(kernel, kinds))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (*self._facts, SOURCES)


symbol = functools.cache(Symbol)  # whose kernel is compiled, or loaded, when it is first asked for


def _again(module, name, kinds, sources):
    """The Symbol that a function from the disk was compiled with."""
    if sources != SOURCES:
        raise OSError("other kernels")  # Numba takes the function for one whose file is lost, and compiles it anew
    return symbol(module, name, kinds)


def by_symbol(dispatcher: Any, numbers: dict[int, types.Type], result: types.Type) -> Callable[..., Any]:
    """What compiled code calls in place of a kernel.

    Parameters
    ----------
    dispatcher : Numba dispatcher
        The kernel, `kernel` of the public function of its name.
    numbers : dict
        Types of the arguments that are numbers, by their places; the others are arrays.
    result : Numba type
        What it gives.

    Returns
    -------
    callable
        For compiled code, with positional arguments.
    """
    module, name = dispatcher.py_func.__module__, dispatcher.py_func.__name__

    def called(*arguments):
        raise NotImplementedError

    class Called(AbstractTemplate):
        key = called

        def generic(self, given, keywords):
            return signature(result, *(numbers.get(i, kind) for i, kind in enumerate(given)))

    infer_global(called, types.Function(Called))

    @lower_builtin(called, types.VarArg(types.Any))
    def call(context, builder, sig, arguments):
        # one kernel for all strides, and for arrays that are only read
        kinds = [of_any_strides(kind) for kind in sig.args]
        found = symbol(module, name, signature(result, *kinds))
        context.environment.consts.append(found)  # which Numba keeps for all functions that this one becomes part of
        kind = context.call_conv.get_function_type(result, kinds)
        function = cgutils.get_or_insert_function(builder.module, kind, found.name)
        status, value = context.call_conv.call_function(builder, function, result, kinds, arguments)
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return value

    return called
