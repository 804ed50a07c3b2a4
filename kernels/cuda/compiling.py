"""How a kernel of a GPU is compiled in half of the time or little more, for which it takes private names of numba-cuda.

A first fit with an empty cache, float32, for sm_90, over a stand-in for the driver, on a busy Zen 3 EPYC, best of two:
in the loop of one block 7.0 s instead of 11.7, in that of shards 8.2 instead of 15.5, in that of a grid 8.2 instead of
15.7 (2026-11-28).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..compiler import UNUSED_PASSES, quickly, without

try:
    from numba.cuda import config
    from numba.cuda.codegen import CUDACodeLibrary
    from numba.cuda.compiler import CUDACompiler
    from numba.cuda.core.compiler_lock import global_compiler_lock
    from numba.cuda.core.postproc import PostProcessor
except ImportError:
    CUDACodeLibrary = None

# It says where variables end. On a GPU nothing is freed there; it was half of what is lowered, a tenth of the time.
UNUSED_ON_GPU = frozenset({"IRLegalization"})


def quick(dispatcher: Any) -> Any:
    """The same kernel, compiled by `compiling`."""
    compile_for = dispatcher.compile

    def compiled(signature):
        with compiling():
            return compile_for(signature)

    dispatcher.compile = compiled
    return dispatcher


@contextmanager
def compiling() -> Iterator[None]:
    """A compilation of numba-cuda: as on the CPU, and of the two that NVVM makes of a kernel only that which is linked.

    The other one, 0.8 s of a loop, makes PTX, in which numba-cuda looks for names of what it has to link. They stand in
    the LLVM IR, too. Functions of the user's own go through all passes.
    """
    if CUDACodeLibrary is None:
        yield
        return
    with global_compiler_lock, quickly(PostProcessor):
        written, define = CUDACodeLibrary.get_asm_str, CUDACompiler.define_pipelines
        CUDACompiler.define_pipelines = lambda compiler: _of_used_passes(compiler, define(compiler))
        if not getattr(config, "CUDA_ENABLE_NRT", False):  # whose names it finds in PTX alone
            CUDACodeLibrary.get_asm_str = lambda library, cc=None: library.get_llvm_str()
        try:
            yield
        finally:
            CUDACodeLibrary.get_asm_str, CUDACompiler.define_pipelines = written, define


def _of_used_passes(compiler, pipelines):
    own = compiler.state.func_id.modname.startswith(__name__.rpartition(".cuda.")[0])
    return without(UNUSED_PASSES | UNUSED_ON_GPU, pipelines) if own else pipelines
