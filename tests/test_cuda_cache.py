"""Compiled CUDA kernels on disk, as far as they go without a GPU: compiled, linked, kept and read again."""

from types import SimpleNamespace
from unittest import mock

import cuda_offline
import cuda_table
import numpy as np
import pytest
import subprocesses

missing = cuda_offline.tools()
pytestmark = pytest.mark.skipif(missing is not None, reason=str(missing))


def made(make, arguments, capability=(9, 0)):
    """What a dispatcher makes of itself that has compiled nothing yet, and whether it compiled."""
    from numba.cuda import dispatcher, types

    with cuda_offline.pretended(capability):
        with mock.patch.object(dispatcher, "compile_cuda", wraps=dispatcher.compile_cuda) as compile_cuda:
            kernel = make().compile((types.int64,) * arguments)
            cufunc = kernel._codelibrary.get_cufunc()
    facts = cufunc.name, cufunc.module.image, kernel.signature, kernel.cooperative, kernel.debug
    return SimpleNamespace(compiled=compile_cuda.call_count > 0, facts=facts, signature=kernel.signature)


def dropout(real="float32"):
    """A new dispatcher of a kernel, and the number of its arguments."""
    from fastnn.kernels.cuda.dropout import dropout_of

    return lambda: dropout_of.__wrapped__(real), 13


def combine(real="float32"):
    from importlib import import_module

    return lambda: import_module("fastnn.kernels.cuda.matmul").combine_of.__wrapped__(real), 10


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_kernel_that_is_read_again_is_the_one_that_was_kept(folder):
    first, again = made(*dropout()), made(*dropout())
    assert first.compiled and not again.compiled
    assert again.facts == first.facts
    assert first.facts[0].encode() in first.facts[1]  # the name by which the driver finds it
    assert [path.suffix for path in folder.iterdir()] == [".fnc"]


def test_another_kernel_gets_another_file(folder):
    others = [(*dropout(), (9, 0)), (*dropout("float64"), (9, 0)), (*dropout(), (8, 0)), (*combine(), (9, 0))]
    first = [made(*other) for other in others]
    assert all(each.compiled for each in first)
    assert len(list(folder.iterdir())) == len({each.facts[1] for each in first}) == len(others)
    again = [made(*other) for other in others]
    assert not any(each.compiled for each in again)
    assert [each.facts for each in again] == [each.facts for each in first]


def test_kernels_are_compiled_before_they_are_queued(folder):
    from fastnn.kernels.cuda import launch
    from fastnn.kernels.cuda.toolchain import Launch

    make, arguments = dropout()
    dispatcher = make()
    with cuda_offline.pretended((9, 0)), mock.patch.object(launch, "current_device", lambda: 0):
        launch.load([Launch(dispatcher, 1, 32, 0, tuple(range(arguments)))])
    assert list(dispatcher.overloads) == [made(make, arguments).signature.args]


@pytest.mark.parametrize("package", ["numba-cuda", "numpy"])
def test_another_version_compiles_anew(package, folder, monkeypatch):
    from fastnn.kernels.cuda import cache

    assert made(*combine()).compiled
    version = cache.importlib.metadata.version
    monkeypatch.setattr(cache.importlib.metadata, "version", lambda name: version(name) + "1" * (name == package))
    cache._versions.cache_clear()
    assert made(*combine()).compiled
    cache._versions.cache_clear()


def test_other_sources_compile_anew(folder, monkeypatch):
    from fastnn.kernels import cache

    assert made(*combine()).compiled
    monkeypatch.setattr(cache, "SOURCES", "others")
    assert made(*combine()).compiled


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: b"", lambda whole: b"x" + whole])
def test_a_damaged_file_is_made_anew(damage, folder):
    right = made(*combine())
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    again = made(*combine())
    assert again.compiled and again.facts[2:] == right.facts[2:]
    assert not made(*combine()).compiled


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert made(*combine()).compiled
    assert made(*combine()).compiled


@pytest.mark.parametrize(
    "change", [("_Kernel", None), ("_Kernel", object), ("PACKAGES", ("no-such-package",))], ids=str
)
def test_without_the_private_names_nothing_is_kept(change, folder, monkeypatch):
    from fastnn.kernels.cuda import cache

    cache._versions.cache_clear()
    monkeypatch.setattr(cache, *change)
    assert made(*combine()).compiled
    assert not folder.exists()
    cache._versions.cache_clear()


def test_every_kernel_has_a_fingerprint_of_its_own():
    from fastnn.kernels.cuda import cache

    kernels = {}
    for name, (call, *ceilings) in cuda_table.KERNELS.items():
        for dtype in ("float32", "float64")[: 2 - ceilings.count(None)]:
            found = call(dtype) if name.startswith("loop") else cuda_offline.launched(lambda c=call, d=dtype: c(d))
            kernels |= {id(kernel): kernel for kernel, *_ in found}
    assert len(kernels) > 60
    assert len({cache.fingerprint(kernel.py_func) for kernel in kernels.values()}) == len(kernels)


def test_what_cannot_be_told_apart_has_no_fingerprint(folder):
    from fastnn.kernels.cuda import cache, toolchain

    for thing in (np.ones(3), {}, test_every_kernel_has_a_fingerprint_of_its_own):

        def holds(thing=thing):
            def inner():
                return thing

            inner.__module__ = "fastnn.kernels.cuda.inner"
            return inner

        with pytest.raises(TypeError, match="a (ndarray|dict|function)"):
            cache.fingerprint(holds())

    @toolchain.kernel(32)
    def foreign(n):
        pass

    assert made(lambda: foreign, 1).compiled
    assert not folder.exists()


PROCESS = """
import hashlib
from test_cuda_cache import combine, made
there = made(*combine())
print(there.compiled, there.facts[0], hashlib.sha256(there.facts[1]).hexdigest())
"""


def test_a_second_process_compiles_nothing(tmp_path):
    first, second = (subprocesses.python(PROCESS, FASTNN_CACHE_DIR=tmp_path).split() for _ in range(2))
    assert first[0] == "True" and second[0] == "False"
    assert first[1:] == second[1:]
