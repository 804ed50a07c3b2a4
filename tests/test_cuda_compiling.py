"""CUDA kernels are compiled by the shorter way, which gives the same code and leaves nothing behind."""

import gc
from contextlib import nullcontext
from importlib import import_module
from unittest import mock

import cuda_offline
import pytest

missing = cuda_offline.tools()
pytestmark = pytest.mark.skipif(missing is not None, reason=str(missing))


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    from fastnn.kernels.cuda import cache

    monkeypatch.setattr(cache, "_Kernel", None)  # without it nothing is kept


def made():
    """(instructions of a kernel, whether NVVM made PTX of it, whether garbage was searched for)."""
    from numba.cuda import types
    from numba.cuda.cudadrv import nvvm

    compile_ir, asked = nvvm.compile_ir, []

    def watched(ir, **options):
        asked.append(("gen-lto" not in options, gc.isenabled()))
        return compile_ir(ir, **options)

    kernel = import_module("fastnn.kernels.cuda.matmul").combine_of.__wrapped__("float32")
    with cuda_offline.pretended((9, 0)), mock.patch.object(nvvm, "compile_ir", watched):
        image = kernel.compile((types.int64,) * 10)._codelibrary.get_cufunc().module.image
    return cuda_offline.instructions(image), any(ptx for ptx, _ in asked), any(searched for _, searched in asked)


def test_the_same_code_in_less_work(monkeypatch):
    from numba.core.types import BaseFunction

    from fastnn.kernels.cuda import compiling

    resolve, short = BaseFunction.get_call_type, made()
    assert BaseFunction.get_call_type is resolve and gc.isenabled()
    monkeypatch.setattr(compiling, "compiling", nullcontext)
    long = made()
    assert len(short[0]) > 20 and short[0] == long[0]
    assert short[1:] == (False, False) and long[1:] == (True, True)


def test_it_goes_without_the_private_names(monkeypatch):
    from fastnn.kernels import compiler
    from fastnn.kernels.cuda import compiling

    monkeypatch.setattr(compiling, "CUDACodeLibrary", None)
    assert made()[1:] == (True, True)
    monkeypatch.setattr(compiler, "BaseFunction", None)
    with compiler.quickly():
        assert gc.isenabled()


def test_the_passes_left_out_are_passes_of_numba():
    from numba.cuda.compiler import CUDACompiler

    from fastnn.kernels.cuda import compiling

    names, define = [], CUDACompiler.define_pipelines

    def named(compiler):
        pipelines = define(compiler)
        names.extend(each[0].__name__ for pipeline in pipelines for each in pipeline.passes)
        return pipelines

    with mock.patch.object(CUDACompiler, "define_pipelines", named):
        made()
    left_out = compiling.UNUSED_PASSES | compiling.UNUSED_ON_GPU
    assert left_out - set(names) <= {"DumpParforDiagnostics"}  # which Numba has for the CPU alone


def test_an_error_leaves_numba_as_it_was():
    from numba.core.types import BaseFunction
    from numba.cuda.codegen import CUDACodeLibrary
    from numba.cuda.compiler import CUDACompiler
    from numba.cuda.core.postproc import PostProcessor

    from fastnn.kernels.cuda import compiling

    def private():
        passes = CUDACompiler.define_pipelines, PostProcessor.run
        return BaseFunction.get_call_type, CUDACodeLibrary.get_asm_str, *passes

    before = private()
    with pytest.raises(ZeroDivisionError), compiling.compiling():
        assert all(now is not then for now, then in zip(private(), before, strict=True))
        raise ZeroDivisionError
    assert private() == before and gc.isenabled()


def test_functions_of_the_user_go_through_all_passes():
    from numba import cuda

    from fastnn.kernels.cuda import compiling

    def of_a_closure(x):
        square = lambda t: t * t  # noqa: E731, what no kernel has
        return square(x)

    with cuda_offline.pretended((9, 0)), compiling.compiling():
        result = cuda.jit(device=True)(of_a_closure).compile_device((cuda.types.float32,))
        assert result.signature.return_type == cuda.types.float32
        of_a_closure.__module__ = "fastnn.kernels.formulas"
        with pytest.raises(Exception, match="make_function"):
            cuda.jit(device=True)(of_a_closure).compile_device((cuda.types.float32,))
