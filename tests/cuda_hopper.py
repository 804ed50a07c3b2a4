"""Products by Hopper's wgmma in the simulator; `test_cuda.py` starts this file with NUMBA_ENABLE_CUDASIM=1.

There, an instruction reads shared memory through its descriptor as the PTX manual lays it out, a copy in bulk is made
when its barrier is waited for, and who writes a panel before its product is done is found out.
"""

import importlib
import warnings

import grids
import numpy as np
import pytest
import reference
from arrays import Placed, aligned, blank, normal
from tolerance import assert_close

import fastnn
from fastnn import kernels
from fastnn.kernels import cuda
from fastnn.kernels.cuda import hopper, launch, plain, toolchain

products = importlib.import_module("fastnn.kernels.cuda.matmul")  # whose name in the package is a function
assert toolchain.SIMULATED, "set NUMBA_ENABLE_CUDASIM=1"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Every product is large enough, and no sum is cut."""
    monkeypatch.setattr(launch, "THREADS", 32)
    monkeypatch.setattr(hopper, "LEAST_SIDE", 1)
    monkeypatch.setattr(hopper, "FULL", 1)
    monkeypatch.setattr(products, "has_wgmma", lambda: True)
    grids.together(monkeypatch, meet=False)


@pytest.fixture
def trusted(monkeypatch):
    monkeypatch.setattr(products, "trusts_wgmma", lambda precision: True)


@pytest.fixture
def launched(monkeypatch):
    """Names of the kernels that are queued."""
    names, run = [], products.run

    def recorded(kernel, *arguments, **more):
        names.append(kernel.fn.__name__)
        run(kernel, *arguments, **more)

    monkeypatch.setattr(products, "run", recorded)
    return names


def rounded_product(a, b, precision):
    """In float64, of operands as the tensor cores get them."""
    return reference.rounded(a, precision) @ reference.rounded(b, precision)


def work_for(m, n, k, precision):
    return aligned(np.full(cuda.work_size(m, n, k, precision), np.nan, np.float32))


# more panels than stages; any strides; terms that are read four at a time
CASES = [
    pytest.param(9, 11, 325, "C", "bf16", marks=pytest.mark.slow),
    (70, 20, 36, "sliced", "tf32"),
    (12, 68, 64, "F", "tf32"),
    (5, 130, 40, "C", "bf16"),
]


@pytest.mark.parametrize("m,n,k,layout,precision", CASES)
def test_matmul(m, n, k, layout, precision, trusted, launched):
    A, B = normal(1, m, k, dtype="float32"), normal(2, k, n, dtype="float32")
    A, B = (
        (aligned(A), aligned(B.T.copy()).T) if layout == "C" else (Placed(X, "float32", layout).array for X in (A, B))
    )
    out = blank((m, n), "float32", "padded")
    cuda.matmul(A, B, work_for(m, n, k, precision), out.array, precision=precision)
    assert launched == ["twins", "wgmma_product"]
    assert_close(out.array, rounded_product(A, B, precision), "tensor")
    out.assert_guarded()


def test_dense(trusted, launched, monkeypatch):
    """Epilogues, and a sum in parts with the sums of the lines, which are not rounded."""
    m, n_in, n_out, precision = 70, 12, 9, "tf32"
    X, W, b = (normal(i, *s, dtype="float32") for i, s in enumerate(((m, n_in), (n_out, n_in), (n_out,))))
    Z, A = np.full((2, m, n_out), np.nan, np.float32)
    cuda.dense_forward(X, W, b, kernels.GELU, 0.0, work_for(m, n_in, n_out, precision), Z, A, precision=precision)
    assert_close(Z, rounded_product(X, W.T, precision) + b, "tensor")
    assert_close(A, reference.activation("gelu", Z), "pointwise")
    dZ, Z, dX = normal(5, m, n_out, dtype="float32"), normal(6, m, n_in, dtype="float32"), np.full_like(X, np.nan)
    work = work_for(m, n_in, n_out, precision)
    cuda.input_gradient(dZ, W, kernels.TANH, 0.0, Z, np.tanh(Z), dX, precision=precision, work=work)
    assert_close(dX, reference.activation_backward("tanh", rounded_product(dZ, W, precision), Z), "tensor")
    assert launched == 2 * ["twins", "wgmma_product"]
    monkeypatch.setattr(hopper, "LEAST_PANELS", 1)
    monkeypatch.setattr(hopper, "FULL", 2)
    dW, db = np.full_like(W, np.nan), np.full_like(b, np.nan)
    cuda.weight_gradient(dZ, X, work_for(m, n_in, n_out, precision), dW, db, precision=precision)
    assert launched[4:] == ["twins", "line_sums", "wgmma_product", "combine"]
    assert_close(dW, rounded_product(dZ.T, X, precision), "tensor")
    assert_close(db, dZ.astype(np.float64).sum(axis=0), "sum")


def test_nan_and_infinity_travel_through(trusted):
    A = np.ones((9, 5), np.float32)
    A[0, 0], A[1, 1] = np.nan, np.inf
    out = np.empty((9, 9), np.float32)
    cuda.matmul(A, np.ones((5, 9), np.float32), work_for(9, 9, 5, "bf16"), out, precision="bf16")
    assert np.isnan(out[0]).all() and (out[1] == np.inf).all() and (out[2:] == 5.0).all()


def test_it_proves_itself_before_it_is_used(launched, monkeypatch):
    """And where it does not, mma.sync is used: here the descriptor says that nothing is swizzled."""
    monkeypatch.setattr(products, "PROOF", (10, 12, 40))
    A, B = normal(1, 10, 12, dtype="float32"), normal(2, 12, 9, dtype="float32")
    work, right = work_for(10, 9, 12, "bf16"), rounded_product(A, B, "bf16")
    for wrong, used in ((0, "wgmma_product"), (1 << 62, "tensor_product")):
        monkeypatch.setattr(hopper, "DESCRIBED", hopper.DESCRIBED ^ wrong)
        products._proved.cache_clear()
        for _ in range(2):
            launched.clear()
            out = np.full((10, 9), np.nan, np.float32)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                cuda.matmul.kernel(*(launch.operand("x", x, x.ndim) for x in (A, B, work, out)), precision="bf16")
            assert_close(out, right, "tensor")
            assert launched[-1] == used
            first = len(launched) > 2
            assert [each.category for each in said] == [RuntimeWarning] * (first and wrong != 0)
        assert not first, "it is asked once"
    products._proved.cache_clear()


@pytest.mark.slow
def test_a_panel_that_is_overwritten_too_early_is_found_out(trusted, monkeypatch):
    monkeypatch.setattr(hopper, "await_products_but_one", lambda: None)
    A, B = normal(1, 9, 6 * 64, dtype="float32"), np.ones((6 * 64, 9), np.float32)
    with pytest.raises(AssertionError, match="shared memory was written while a product read it"):
        cuda.matmul(A, B, work_for(9, 9, len(B), "bf16"), np.empty((9, 9), np.float32), precision="bf16")


def test_a_descriptor_is_read_as_in_the_manual(monkeypatch):
    """Its examples: 128 bytes of swizzle, where unit u of line i is in place u ^ i % 8, and tf32 without any."""
    memory = np.zeros(16 * 32, np.float32)
    monkeypatch.setattr(plain, "_shared_pieces", lambda: [np.zeros(252, np.float32), memory])  # so it begins at 1,024
    for line in range(16):
        for unit in range(8):
            memory[32 * line + 4 * (unit ^ line % 8) :][:4].view(np.uint32)[:] = 8 * line + unit
    described = 1024 >> 4 | hopper.DESCRIBED
    for step in range(4):
        units = plain._words_at(described + 2 * step, 16)[:, ::4]
        assert np.array_equal(units, 8 * np.arange(16)[:, None] + 2 * step + np.arange(2))
    words = memory.view(np.uint32)
    words[:] = np.arange(len(words))
    by_line, by_unit = 32, 64  # words: from eight lines to the next, and from unit to unit
    found = plain._words_at(1024 >> 4 | by_unit // 4 << 16 | by_line // 4 << 32, 16)
    line, term = np.arange(16)[:, None], np.arange(8)
    assert np.array_equal(found, line % 8 * 4 + line // 8 * by_line + term % 4 + term // 4 * by_unit)
    with pytest.raises(IndexError, match="beyond the shared memory"):
        plain._words_at(described, 64)


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda bars, p: plain.arrive(bars, 2), "more arrive at a barrier than it waits for"),
        (lambda bars, p: plain.copy_in_bulk(p + 1, p, 16, bars), "a copy of 16 bytes"),
        (lambda bars, p: plain.wgmma_tf32((), 0, 0), "whole warpgroups"),
    ],
)
def test_misuse_is_found_out(change, message):
    @toolchain.kernel(1)
    def misuse():
        memory = plain.shared_memory(np.float32, 32)
        bars = plain.viewed(plain.shared_memory(np.float32, 4), np.int64)
        plain.init_barrier(bars, 1)
        change(bars, memory)

    with pytest.raises(AssertionError, match=message):
        misuse[1, 1]()


@pytest.mark.slow
def test_a_net_learns_the_same(trusted, monkeypatch):
    """The forward pass and the gradient of its large layer, in the graph, as by mma.sync."""
    monkeypatch.setattr(hopper, "LEAST_SIDE", 9)
    monkeypatch.setenv("FASTNN_CUDA_LOOP", "graph")
    X, y = normal(1, 12, 10, dtype="float32"), np.arange(12) % 3
    weights, multiply, used = [], products._wgmma, set()

    def recorded(stream, sizes, *more):
        used.add((there, sizes))
        multiply(stream, sizes, *more)

    monkeypatch.setattr(products, "_wgmma", recorded)
    for there in (True, False):
        monkeypatch.setattr(products, "has_wgmma", lambda there=there: there)
        monkeypatch.setattr(products, "trusts_wgmma", lambda precision, there=there: there)
        layers = [fastnn.Dense(9, "tanh"), fastnn.Dense(3, "softmax")]
        net = fastnn.Sequential(layers, device="cuda", precision="bf16", seed=0)
        net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=1, batch_size=12, shuffle=False)
        weights.append(net.get_weights())
    assert used == {(True, (12, 9, 10)), (True, (9, 10, 12))}
    for one, other in zip(*weights, strict=True):
        assert_close(one, other, "training")


def test_how_a_product_is_cut(trusted, launched, monkeypatch):
    monkeypatch.undo()
    assert hopper.cut_of(4096, 4096, 4096, "bf16")[:3] == (64, 64, 1)
    assert hopper.cut_of(1024, 1024, 8192, "tf32")[:3] == (256, 64, 4)
    assert hopper.cut_of(1024, 1024, 8192, "tf32", whole=True) is None  # 32 blocks
    assert hopper.cut_of(131072, 10, 1024, "bf16") is hopper.cut_of(4096, 4096, 0, "bf16") is None
    cut = hopper.cut_of(1000, 1100, 900, "bf16")
    places = [*cut.twins, cut.sums, cut.results, cut.size]
    sizes = [8 * 15 * hopper.PANEL, 10 * 15 * hopper.PANEL, 1024 * 15, 3 * 1000 * 1100]
    assert cut[:3] == (15, 5, 3) and np.diff(places).tolist() == sizes and not any(place % 4 for place in places)
    assert cuda.work_size(4096, 4096, 4096, "bf16") == 0  # without a Hopper


def test_without_space_mma_sync_is_used(trusted, launched):
    A, B, out = np.ones((9, 12), np.float32), np.ones((12, 9), np.float32), np.empty((9, 9), np.float32)
    cuda.matmul(A, B, None, out, precision="tf32")
    assert launched == ["tensor_product"] and (out == 12).all()
