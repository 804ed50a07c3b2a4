"""How a kernel is compiled: the options of Numba, and the private names of Numba that make it fast to compile."""

import functools
import gc
import itertools
import sys
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numba import njit

from .cache import DiskCache
from .calls import public as behind_contract
from .options import COMPILED
from .symbols import address_of_kernel
from .threads import stop_if_interrupted, uninterrupted

try:
    from llvmlite import binding as llvm
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler
    from numba.core.postproc import PostProcessor
    from numba.core.types import BaseFunction
except (
    ImportError
):  # private names: without them inner kernels are optimised once more at every level, three times as long
    JITCodeLibrary = BaseFunction = PostProcessor = None

# Passes for closures, raises, context managers and array expressions, of which no kernel has any: a tenth of the time
# to compile on a CPU, a sixth for a GPU. For a GPU, some branches on constants have no type and must be pruned.
UNUSED_PASSES = frozenset(
    {
        "WithLifting",
        "InlineClosureLikes",
        "RewriteDynamicRaises",
        "MakeFunctionToJitFunction",
        "InlineInlinables",
        "FindLiterallyCalls",
        "LiteralUnroll",
        "LiteralPropagationSubPipelinePass",
        "InlineOverloads",
        "NopythonRewrites",
        "DumpParforDiagnostics",
    }
)
UNUSED_ON_CPU = frozenset({"RewriteSemanticConstants", "DeadBranchPrune", "GenericRewrites"})
KNOWS_BFLOAT = llvm.llvm_version_info >= (16,)  # before that, LLVM's intrinsics take bfloat16 as 16-bit integers
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def jit(math: frozenset[str], public: bool = False, by_address: bool = False) -> Callable[[Kernel], Kernel]:
    """Decorator for a kernel compiled with the fastmath set `math`.

    An inner kernel (the default) is linked into what calls it. A public one can also be called from Python, behind the
    checks of its contract if it has one, one by address from compiled code that does not know it (`cpu.units`); both
    are kept in the disk cache.
    """

    def decorate(function):
        if not COMPILED:
            return _in_plain_python(function, public)
        pipeline, alone = {}, public or by_address
        if JITCodeLibrary is not None:
            pipeline["pipeline_class"] = _PublicCompiler if alone else _InnerCompiler
        dispatcher = njit(
            fastmath=set(math),
            nogil=True,
            error_model="numpy",
            no_cpython_wrapper=not public,
            no_cfunc_wrapper=True,
            **pipeline,
        )(function)
        if alone and DiskCache is not None and hasattr(dispatcher, "_cache"):
            dispatcher._cache = DiskCache(function)
        if not public:
            return dispatcher
        compile_for = dispatcher.compile
        dispatcher.compile = lambda signature: uninterrupted(lambda: compile_for(signature))
        return behind_contract(function, dispatcher)

    return decorate


_resolved: dict[Any, Any] = {}


def _remembering(resolve):
    """Numba's typing of a call of a function of its own, or of an intrinsic, each worked out once."""

    def get_call_type(function, context, args, keywords):
        key = function, context, args, tuple(sorted(keywords.items()))
        if key not in _resolved:
            _resolved[key] = resolve(function, context, args, keywords)
        return _resolved[key]

    return get_call_type


def _when_asked(run):
    """Numba's search, after each of its passes, for where variables live, made when somebody asks for it."""

    def run_when_asked(processor, emit_dels=False, **more):
        code, own = processor.func_ir, sys.modules[type(processor).__module__]
        if emit_dels or code.is_generator:
            return run(processor, emit_dels, **more)
        code.blocks = own.transforms.canonicalize_cfg(code.blocks)
        code.variable_lifetime, code.generator_info = own.VariableLifetime(code.blocks), None

    return run_when_asked


def without(unused: Collection[str], pipelines: Any) -> Any:
    """The pipelines of a compiler of Numba, or of numba-cuda, less the passes of these names."""
    for pipeline in pipelines:
        pipeline.passes = [each for each in pipeline.passes if each[0].__name__ not in unused]
        pipeline.finalize()
    return pipelines


@contextmanager
def quickly(processor: Any = PostProcessor) -> Iterator[None]:
    """A compilation by who holds Numba's lock, with no search for garbage: a tenth of the time, and little found.

    What an operator or an intrinsic makes of some types is worked out once: Numba asks 15 times as often, and takes a
    fifth of the time for it. Where variables live is worked out where it is needed, once of four times: a twentieth.

    Parameters
    ----------
    processor : type
        The PostProcessor of Numba, or that of numba-cuda.
    """
    if BaseFunction is None:
        yield
        return
    collects, resolve, run = gc.isenabled(), BaseFunction.get_call_type, processor.run
    gc.disable()
    BaseFunction.get_call_type, processor.run = _remembering(resolve), _when_asked(run)
    try:
        yield
    finally:
        BaseFunction.get_call_type, processor.run = resolve, run
        if collects:
            gc.enable()


_numbers = itertools.count(1)
_functions: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # by number, in plain Python


def address_in_plain_python(function: Callable[..., Any]) -> int:
    """A number that stands for `function`, as long as somebody keeps it, where nothing is compiled."""
    address = next(_numbers)
    _functions[address] = function
    return address


def function_at(address: int) -> Callable[..., Any]:
    """The plain Python function that a number from `address_in_plain_python` stands for."""
    return _functions[int(address)]


class Loop:
    """A loop around functions of the user's own, compiled for a signature and kept in no cache.

    Parameters
    ----------
    function : callable
        In Python, without defaults.
    signature : Numba signature
        Its arguments and its result.

    Attributes
    ----------
    address : int
        Valid as long as this object lives, in this process and its forks.
    """

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        self._kept = function
        if not COMPILED:
            self.address = address_in_plain_python(function)
            return
        options = dict(no_cpython_wrapper=True, no_cfunc_wrapper=True)
        self._kept = njit(error_model="numpy", nogil=True, **options)(function)
        self.address = address_of_kernel(self._kept, signature)


def _in_plain_python(function, public):
    """The function itself; where Python enters, overflow and division by zero are as silent as in compiled code."""
    kernel = function
    if public:

        @functools.wraps(function)
        def kernel(*args, **keywords):
            with np.errstate(all="ignore"):
                return function(*args, **keywords)

    kernel.py_func = function
    return behind_contract(function, kernel) if public else kernel


def _set_linkage(module, old, new):
    """Give all functions that a module defines with one linkage another."""
    for function in module.functions:
        if not function.is_declaration and function.linkage == old:
            function.linkage = new


def _link(module, libraries):
    """Link libraries and all that inner ones need, each once and after who needs it: LLVM drops what none calls yet."""
    met, found = set(), []

    def visit(needed):
        for library in needed:
            if library not in met:
                met.add(library)
                inner = isinstance(library, _InnerLibrary)
                visit(library._linking_libraries if inner else [])
                found.append(library._final_module if inner else library._get_module_for_linking())

    visit(libraries)
    for code in reversed(found):
        module.link_in(code, preserve=True)


if JITCodeLibrary is not None:

    class _InnerLibrary(JITCodeLibrary):
        """Code that is only ever linked into a public kernel: not linked itself, and no machine code of its own.

        Numba would optimise and link it here and again at every level above, with the same result.
        """

        def add_llvm_module(self, ll_module):
            if self.reassociates:  # else it may as well be optimised later, with the same bits
                self._optimize_functions(ll_module)
            self._final_module.link_in(ll_module)

        def finalize(self):
            self._raise_if_finalized()
            _set_linkage(self._final_module, llvm.Linkage.external, llvm.Linkage.linkonce_odr)
            self._finalize_dynamic_globals()
            self._finalized = True

        def _get_module_for_linking(self):
            """For a library of Numba's own: with all that this one needs."""
            module = self._final_module.clone()
            _link(module, self._linking_libraries)
            return module

        def get_pointer_to_function(self, name):
            return 0

        @property
        def codegen(self):
            return self

        def set_env(self, env_name, env):
            """An inner kernel never raises, so nothing reads its environment."""

    class _InnerCompiler(Compiler):
        """The part of Numba's pipeline that kernels need, into an _InnerLibrary."""

        def __init__(self, typingctx, targetctx, library, args, return_type, flags, locals):
            library = _InnerLibrary(targetctx.codegen(), "fastnn_inner")
            library.reassociates = "reassoc" in flags.fastmath.flags
            super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)

        def compile_extra(self, func):
            stop_if_interrupted()
            return super().compile_extra(func)

        def define_pipelines(self):
            return without(UNUSED_PASSES | UNUSED_ON_CPU, super().define_pipelines())

    class _PublicLibrary(JITCodeLibrary):
        """Code of a public kernel: loops are neither vectorised nor unrolled, which the kernels do themselves.

        Inner kernels become part of it under no name: an object of another process may have other code by the same
        name, and whichever is loaded first would serve both.
        """

        def finalize(self):
            self._raise_if_finalized()
            _link(self._final_module, self._linking_libraries)
            for library in self._linking_libraries:
                if hasattr(library, "_reload_init"):  # Numba 0.61 has none
                    self._reload_init.update(library._reload_init)
            self._final_module.data_layout = self._codegen._data_layout
            self._optimize_final_module()
            self._final_module.verify()
            self._finalize_final_module()

        def _optimize_final_module(self):
            _set_linkage(self._final_module, llvm.Linkage.linkonce_odr, llvm.Linkage.internal)
            options = llvm.create_pipeline_tuning_options(3)
            options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
            builder = llvm.create_pass_builder(self._codegen._tm, options)
            passes = builder.getModulePassManager()
            passes.add_refprune_pass()
            passes.run(self._final_module, builder)

    class _PublicCompiler(Compiler):
        """Numba's pipeline into a _PublicLibrary."""

        def __init__(self, typingctx, targetctx, library, args, return_type, flags, locals):
            library = _PublicLibrary(targetctx.codegen(), "fastnn_public")
            library.enable_object_caching()
            super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)

        def compile_extra(self, func):
            with quickly():
                return super().compile_extra(func)
