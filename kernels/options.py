"""Every choice about compilation: jit options, fastmath sets, vector width, tile shape, threads and the disk cache.

Nothing here touches the CPU or compiles at import: the target is read when the first kernel is typed.
"""

import functools
import gc
import hashlib
import os
import pickle
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numba import njit

try:
    from numba.core.caching import _Cache
    from numba.core.compiler import Compiler, CompileResult
except ImportError:  # private names of Numba: without them the kernels still work, uncached
    _Cache = None
try:
    from llvmlite import binding as llvm
    from numba.core.codegen import JITCodeLibrary
except (
    ImportError
):  # likewise: inner kernels are then optimised once more at every level, which takes three times as long
    JITCodeLibrary = None

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

# Products and reductions may be reordered; elementary functions, losses and finite checks may only be contracted:
# reassoc turns the error of a range reduction from 1.5e-8 into 2.4e-7. Never nnan or ninf: divergence must be seen.
FAST = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
EXACT = frozenset({"contract"})

# For GPUs there is one set: multiplications and additions are contracted, as in EXACT, unless told otherwise, and
# numba-cuda's `fastmath` holds nnan and ninf. Device functions become part of their kernel.
GPU_KERNEL = {"fastmath": False}
GPU_DEVICE = {"device": True, "forceinline": True}

# False with NUMBA_DISABLE_JIT=1: kernels are plain Python then, over the primitives of cpu/plain.py.
COMPILED = not numba.config.DISABLE_JIT


def jit(math: frozenset[str], public: bool = False) -> Callable[[Kernel], Kernel]:
    """Decorator for a kernel compiled with the fastmath set `math`.

    An inner kernel (the default) is called from compiled code only. A public one can also be called from Python and
    is kept in the disk cache.
    """

    def decorate(function):
        if not COMPILED:
            return _in_plain_python(function, public)
        pipeline = {}
        if JITCodeLibrary is not None:
            pipeline["pipeline_class"] = _PublicCompiler if public else _InnerCompiler
        dispatcher = njit(
            fastmath=set(math),
            nogil=True,
            error_model="numpy",
            no_cpython_wrapper=not public,
            no_cfunc_wrapper=True,
            **pipeline,
        )(function)
        if public and _Cache is not None and hasattr(dispatcher, "_cache"):
            dispatcher._cache = DiskCache(function)
        return dispatcher

    return decorate


_callbacks = {}  # by address: kept alive, and what `cpu/plain.py` calls


def callback(function, signature):
    """Address of `function`, compiled for a signature of C: called with an address in a plan, and never freed."""
    if not COMPILED:
        address = len(_callbacks) + 1
        _callbacks[address] = function
        return address
    compiled = numba.cfunc(signature, error_model="numpy")(function)
    _callbacks[compiled.address] = compiled
    return compiled.address


def callback_at(address):
    """The plain Python function at an address that `callback` gave."""
    return _callbacks[int(address)]


def _in_plain_python(function, public):
    """The function itself; where Python enters, overflow and division by zero are as silent as in compiled code."""
    kernel = function
    if public:

        @functools.wraps(function)
        def kernel(*args, **keywords):
            with np.errstate(all="ignore"):
                return function(*args, **keywords)

    kernel.py_func = function
    return kernel


if JITCodeLibrary is not None:

    class _InnerLibrary(JITCodeLibrary):
        """Code that is only ever linked into a public kernel: left unoptimised, and no machine code of its own.

        Numba would optimise and emit it here and again at every level above, with the same result.
        """

        def _optimize_final_module(self):
            pass

        def _finalize_final_module(self):
            self._finalize_dynamic_globals()
            self._finalized = True

        def get_pointer_to_function(self, name):
            return 0

        @property
        def codegen(self):
            return self

        def set_env(self, env_name, env):
            """An inner kernel never raises, so nothing reads its environment."""

    # Passes for closures, raises, context managers, array expressions and branches on types: no inner kernel has any.
    # A tenth of the time to compile.
    _UNUSED_PASSES = frozenset(
        {
            "WithLifting",
            "InlineClosureLikes",
            "RewriteSemanticConstants",
            "DeadBranchPrune",
            "GenericRewrites",
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

    class _InnerCompiler(Compiler):
        """The part of Numba's pipeline that kernels need, into an _InnerLibrary."""

        def __init__(self, typingctx, targetctx, library, args, return_type, flags, locals):
            library = _InnerLibrary(targetctx.codegen(), "fastnn_inner")
            super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)

        def define_pipelines(self):
            pipelines = super().define_pipelines()
            for pipeline in pipelines:
                pipeline.passes = [each for each in pipeline.passes if each[0].__name__ not in _UNUSED_PASSES]
                pipeline.finalize()
            return pipelines

    class _PublicLibrary(JITCodeLibrary):
        """Code of a public kernel: loops are neither vectorised nor unrolled, which the kernels do themselves."""

        def _optimize_final_module(self):
            options = llvm.create_pipeline_tuning_options(3)
            options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
            builder = llvm.create_pass_builder(self._codegen._tm, options)
            passes = builder.getModulePassManager()
            passes.add_refprune_pass()
            passes.run(self._final_module, builder)

    class _PublicCompiler(Compiler):
        """Numba's pipeline into a _PublicLibrary, with no search for garbage: a tenth of the time, and little found."""

        def __init__(self, typingctx, targetctx, library, args, return_type, flags, locals):
            library = _PublicLibrary(targetctx.codegen(), "fastnn_public")
            library.enable_object_caching()
            super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)

        def compile_extra(self, func):
            collects = gc.isenabled()
            gc.disable()
            try:
                return super().compile_extra(func)
            finally:
                if collects:
                    gc.enable()


@functools.cache
def _target():
    """(triple, cpu name, feature string) that Numba compiles for."""
    from numba.core.registry import cpu_target

    return cpu_target.target_context.codegen().magic_tuple()


@functools.cache
def _features():
    return frozenset(_target()[2].split(","))


@functools.cache
def vector_bytes():
    """Bytes in one SIMD register of the machine that Numba compiles for."""
    features = _features()
    if "+avx512f" in features:
        return 64
    return 32 if "+avx" in features else 16


def lanes(bits):
    """Number of elements of `bits` bits in one SIMD register."""
    return 8 * vector_bytes() // bits


@functools.cache
def has_fma():
    """Whether a fused multiply-add is one instruction."""
    return not is_x86() or bool(_features() & {"+fma", "+avx512f"})


def is_x86():
    """Whether Numba compiles for x86-64."""
    return _target()[0].startswith("x86_64")


# A register tile is rows x VECTORS registers of sums; VECTORS more hold a row of B, one the scalar of A.
VECTORS = 2


@functools.cache
def tile_rows():
    """Heights of the register tiles, tallest first: 8 x 2 needs 32 registers (AVX-512, NEON), 6 x 2 fits in 16."""
    return (8, 4, 2, 1) if vector_bytes() == 64 or not is_x86() else (6, 4, 2, 1)


def default_threads():
    """Threads used where the caller names none: NUMBA_NUM_THREADS, else the cores that this process may use."""
    return numba.config.NUMBA_NUM_THREADS


def _sources_hash():
    """Hash of every kernel source, so that an edit anywhere makes old cache files unreachable; None without sources."""
    digest, paths = hashlib.sha256(), sorted(Path(__file__).parent.rglob("*.py"))
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest() if paths else None  # none to see in a zip file


# taken at import (1 ms): a file that is changed after it is not what this process runs
SOURCES = _sources_hash()


def cache_folder():
    """Folder of compiled kernels: FASTNN_CACHE_DIR, else the user's cache folder, None for a user without a home."""
    chosen = os.environ.get("FASTNN_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.path.expanduser(os.path.join(base, "fastnn"))
    return None if folder.startswith("~") else Path(folder)


def cache_file(name, *key):
    """File of what is compiled for the function `name` and a key that fixes the rest; None where nothing is kept."""
    folder = cache_folder()
    if folder is None or SOURCES is None:
        return None
    digest = hashlib.sha256(repr((name, *key, SOURCES, sys.version)).encode())
    return folder / f"{name.rpartition('.')[2]}-{digest.hexdigest()[:32]}.fnc"


def read_cache(path):
    """What `write_cache` put there; None if it cannot be read or is damaged."""
    try:
        content = b"" if path is None else path.read_bytes()
    except OSError:
        return None
    digest, payload = content[:32], content[32:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def write_cache(path, payload):
    """Keep bytes, by atomic rename; a full disk or a read-only folder is no error."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.stem}-{secrets.token_hex(8)}.tmp")
        try:
            temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError:
        return


if _Cache is not None:

    class DiskCache(_Cache):
        """One file for each (function, signature, CPU, kernel sources, Numba, Python), written by atomic rename.

        Numba's own cache does not see edits in other files, needs a writable source folder, and lets two cold
        processes write the same data file. A file that cannot be read or written here is as good as absent.
        """

        def __init__(self, function):
            self._name = f"{function.__module__}.{function.__qualname__}"

        @property
        def cache_path(self):
            """The folder, as Numba's dispatcher reports it."""
            return str(cache_folder())

        def _path(self, signature):
            sets = sorted(EXACT), sorted(FAST)
            return cache_file(self._name, str(signature), _target(), numba.__version__, sets)

        def load_overload(self, sig, target_context):
            """The compiled function for `sig`, or None."""
            target_context.refresh()
            payload = read_cache(self._path(sig))
            return None if payload is None else CompileResult._rebuild(target_context, *pickle.loads(payload))

        def save_overload(self, sig, data):
            """Keep a compiled function."""
            if data.library.has_dynamic_globals or data.lifted:
                return
            from numba.core.serialize import dumps

            try:
                payload = dumps(data._reduce())
            except RuntimeError:
                if data.library._compiled_object is not None:
                    raise
                # Ctrl-C came while LLVM handed over the machine code, and its callback swallowed it
                raise KeyboardInterrupt from None
            write_cache(self._path(sig), payload)

        def enable(self):
            """Part of Numba's interface."""

        def disable(self):
            """Part of Numba's interface."""

        def flush(self):
            """Part of Numba's interface."""
