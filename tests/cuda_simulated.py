"""Every CUDA kernel and the loop in the simulator; `test_cuda.py` starts this file with NUMBA_ENABLE_CUDASIM=1.

Arrays of NumPy stand in for those of a device. A thread of the device is a thread of Python: so shapes are tiny.
"""

import importlib
import inspect
import itertools

import grids
import numpy as np
import pytest
import reference
from arrays import Placed, aligned, blank, normal
from test_house_rules import documented
from test_kernel_contract import example, refuse_all
from test_losses import DELTA, KINDS, code_of, name_of, problem
from tolerance import assert_close

from fastnn import kernels
from fastnn.kernels import contract, cpu, cuda
from fastnn.kernels.cuda import async_tile, launch, losses, phases, plain, primitives, toolchain

products = importlib.import_module("fastnn.kernels.cuda.matmul")  # whose name in the package is a function
assert toolchain.SIMULATED, "set NUMBA_ENABLE_CUDASIM=1"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(launch, "THREADS", 32)
    monkeypatch.setattr(losses, "WARPS", 2)
    grids.together(monkeypatch, meet=False)


def code(name):
    return getattr(kernels, name.upper())


def test_roots_and_ratios_without_a_branch_are_rounded_to_nearest():
    """From the smallest normal number to the largest, and of zeros and infinities, as IEEE 754 has them."""
    single, rng = np.float32, np.random.default_rng(0)
    numbers = [single(x) for x in 2.0 ** rng.uniform(-126, 127, 400)]
    numbers += [single(x) for x in (0.0, np.inf, 1.0, 2.0**-126, 2.0**-101, 2.0**-100, 3.4028235e38)]
    with np.errstate(all="ignore"):
        for x in numbers:
            assert primitives.root(x) == np.sqrt(x)
        assert np.isnan(primitives.root(single(-1)))
        for a, b in itertools.product([*numbers[:40], *numbers[400:404]], [*numbers[40:80], *numbers[400:404]]):
            right, found = a / b, primitives.ratio(a, b)
            if np.isnan(right):
                assert np.isnan(found)
            elif right in (0, np.inf) or 2.0**-126 <= right and 2.0**-126 <= b <= 2.0**126:
                assert found == right or a < 2.0**-100 and abs(found - right) <= np.spacing(right)


def test_division_by_an_inverse_is_exact():
    rng = np.random.default_rng(0)
    divisors = [1, 2, 3, 7, 8, 255, 2**16 - 1, 2**16, 2**30 + 1, 2**31 - 1, *rng.integers(1, 2**31, 50).tolist()]
    for n in divisors:
        inverse = phases.inverse_of(np.int32(n))
        near = [k * n + d for k in (0, 1, 2, (2**31 - 1) // n) for d in (-1, 0, 1)]
        for a in [*near, *rng.integers(0, 2**31, 20).tolist(), 2**31 - 1]:
            if 0 <= a < 2**31:
                assert phases.divided(np.int32(a), np.int32(n), inverse) == divmod(a, n)


@pytest.mark.parametrize("name", [*reference.ACTIVATIONS, "softmax"])
def test_activations(name, dtype):
    param, layout = reference.DEFAULT_PARAM.get(name, 0.0), ["C", "sliced", "F", "padded"][len(name) % 4]
    values = normal(1, 5, 7, scale=3.0, dtype=dtype)
    Z, A, dA = Placed(values, dtype, layout), blank((5, 7), dtype, layout), Placed(normal(2, 5, 7), dtype, layout)
    cuda.activation_forward(code(name), param, Z.array, A.array)
    assert_close(A.array, reference.activation(name, values, param), "pointwise", what=name)
    expected = reference.activation_backward(name, dA.array, values, param)
    cuda.activation_backward(code(name), param, dA.array, Z.array, A.array, dA.array)
    assert_close(dA.array, expected, "slope", what=name)
    Z.assert_unchanged()
    A.assert_guarded()
    dA.assert_guarded()


@pytest.mark.parametrize("kind", KINDS)
def test_losses(kind, dtype):
    for m, k, weighted in ((3, 40, True), (70, 2, False)):
        Z, y, w = problem(kind, m, k, dtype, weighted)
        dZ, result = np.full_like(Z, np.nan), np.full(losses.RESULT, np.nan, dtype)
        cuda.loss_backward(code_of(kind), DELTA, Z, y, w, dZ, result)
        assert_close(result[0], reference.loss_forward(name_of(kind), Z, y, w, DELTA), "sum", dtype, kind)
        assert_close(dZ, reference.loss_backward(name_of(kind), Z, y, w, DELTA), "pointwise", what=kind)
    with_gradient = result[0]
    cuda.loss_forward(code_of(kind), DELTA, Z, y, None, result)
    assert result[0] == with_gradient


def test_an_index_that_is_no_class_counts_for_nothing():
    Z, y = np.linspace(-1.0, 2.0, 20).reshape(5, 4), np.array([[1.5], [-1.0], [4.0], [2.0], [np.nan]])
    dZ, result, one = np.empty_like(Z), np.empty(losses.RESULT), np.empty((1, 4))
    cuda.loss_backward(kernels.CROSS_ENTROPY, 0.0, Z, y, None, dZ, result)
    whole = result[0]
    cuda.loss_backward(kernels.CROSS_ENTROPY, 0.0, Z[3:4], y[3:4], None, one, result)
    assert whole == pytest.approx(result[0] / 5, rel=1e-12)
    assert not dZ[[0, 1, 2, 4]].any() and np.allclose(5 * dZ[3], one[0], rtol=1e-12)


UPDATES = {
    "sgd": (cuda.sgd_update, reference.sgd, 0, (0.1, 0.01)),
    "momentum": (cuda.momentum_update, reference.momentum, 1, (0.1, 0.9, False, 0.01)),
    "nesterov": (cuda.momentum_update, reference.momentum, 1, (0.1, 0.9, True, 0.0)),
    "rmsprop": (cuda.rmsprop_update, reference.rmsprop, 2, (0.1, 0.99, 1e-6, 0.5, 0.01)),
    "adagrad": (cuda.adagrad_update, reference.adagrad, 1, (0.1, 1e-8, 0.2, 0.01, 3)),
    "adam": (cuda.adam_update, reference.adam, 2, (0.1, 0.9, 0.999, 1e-8, 0.01, 0.02, 3)),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates(name, dtype):
    update, expected, states, settings = UPDATES[name]
    for layout in ("C", "reversed"):
        vectors = [Placed(abs(normal(i, 11)), dtype, layout) for i in range(2 + states)]
        right = expected(*[v.array for v in vectors], *settings)
        update(*[v.array for v in vectors], *settings)
        changed = [vectors[0], *vectors[2:]]
        for vector, result in zip(changed, right if states else [right], strict=True):
            assert_close(vector.array, result, "sum", what=name)
            vector.assert_guarded()
        vectors[1].assert_unchanged()


def test_updates_four_at_a_time(dtype):
    vectors = [aligned(abs(normal(i, 10)).astype(dtype)) for i in range(4)]
    settings = (0.1, 0.9, 0.999, 1e-8, 0.0, 0.0, 1)
    right = reference.adam(*vectors, *settings)
    cuda.adam_update(*vectors, *settings)
    for vector, result in zip((vectors[0], *vectors[2:]), right, strict=True):
        assert_close(vector, result, "sum")


def test_permutation():
    for rows in (1, 2, 3, 33):
        here, there = np.empty(rows, np.int64), np.empty(2 * rows, np.int64)[::2]
        cpu.rng.permutation(7, 3, here)
        cuda.permutation(7, 3, there)
        assert np.array_equal(here, there)


def test_dropout(dtype):
    A = normal(4, 5, 9, dtype=dtype)
    here, there = np.empty_like(A), blank(A.shape, dtype, "reversed")
    cpu.dropout(0.3, 7, 2, 1, 11, A, here)
    cuda.dropout(0.3, 7, 2, 1, 11, A, there.array)
    assert np.array_equal(here == 0, there.array == 0)
    assert_close(there.array, here, "pointwise")
    there.assert_guarded()


def test_rows_of_tables(dtype):
    """Any strides, and codes that name no row."""
    codes, table = np.array([[3, -1, 0], [7, 2, 2], [1 << 30, 6, 1], [5, 5, 5]], np.int32), normal(4, 7, 5, dtype=dtype)
    for name, chosen in (("embedding_gather", codes[:, 1]), ("embedding_sum", codes[:, ::-1])):
        here, there = np.empty((4, 5), dtype), blank((4, 5), dtype, "reversed")
        getattr(cpu, name)(chosen, table, here)
        getattr(cuda, name)(chosen, table, there.array)
        assert np.array_equal(there.array, here)
        there.assert_guarded()
        getattr(cuda, name)(chosen, table[:0], there.array)
        assert not there.array.any()


# sizes and layouts that bring every way of fetching, and every kernel, into play
PRODUCTS = [
    (9, 20, 8, "C", "C"),
    (12, 24, 20, "F", "C"),
    (12, 18, 24, "C", "F"),
    (10, 19, 9, "sliced", "reversed"),
    (6, 13, 40, "C", "F"),
    (6, 11, 7, "F", "sliced"),
    (6, 3, 40, "C", "F"),
    (6, 2, 7, "F", "sliced"),
    (3, 12, 40, "F", "C"),
    (2, 9, 7, "reversed", "F"),
]


@pytest.mark.parametrize("m,n,k,layout_a,layout_b", PRODUCTS)
def test_matmul(m, n, k, layout_a, layout_b, dtype):
    def placed(seed, rows, columns, layout):
        values = normal(seed, rows, columns, dtype=dtype)
        if layout == "F":
            return aligned(values.T.copy()).T
        return aligned(values) if layout == "C" else Placed(values, dtype, layout).array

    A, B, out = placed(1, m, k, layout_a), placed(2, k, n, layout_b), blank((m, n), dtype, "padded")
    cuda.matmul(A, B, None, out.array)
    assert_close(out.array, A.astype(np.float64) @ B.astype(np.float64), "sum")
    out.assert_guarded()


def test_a_very_long_side_goes_along_x(monkeypatch):
    monkeypatch.setattr(products, "MOST_BLOCKS", 0)
    shapes = []
    monkeypatch.setattr(products, "run", lambda kernel, shape, *more, **named: shapes.append(shape[0]))
    A, B, out = np.ones((70, 5)), np.ones((5, 400)), np.empty((70, 400))
    cuda.matmul(A, B, None, out)
    assert shapes == [(7, 2, 1)]
    monkeypatch.undo()
    with pytest.raises(ValueError, match="arrays must have fewer columns: a GPU has 65,535 blocks; got 65,536"):
        launch.run(None, ((1, 1 << 16), (1, 32)), 0)


@pytest.mark.parametrize(
    "tile,m,n,parts,order",
    [
        pytest.param(128, 132, 68, 2, "C", marks=pytest.mark.slow),
        pytest.param(128, 132, 68, 2, "F", marks=pytest.mark.slow),  # batches are aligned along the sum
        pytest.param(64, 12, 70, 4, "C", marks=pytest.mark.slow),
        (64, 12, 20, 2, "F"),
        (32, 36, 20, 2, "C"),
    ],
)
def test_tiles_and_parts(tile, m, n, parts, order, monkeypatch):
    """A sum cut into parts, in tiles of each size, with the sums of the rows."""
    monkeypatch.setattr(products, "parts_of", lambda *given: parts)
    monkeypatch.setattr(products, "tile_of", lambda *given: tile)
    batch = 37 if order == "C" else 36
    dZ, X = (normal(i, batch, size, dtype="float32") for i, size in enumerate((m, n)))
    dZ, X = (aligned(each) if order == "C" else aligned(each.T.copy()).T for each in (dZ, X))
    dW, db = np.full((m, n), np.nan, np.float32), np.full(m, np.nan, np.float32)
    work = np.full(cuda.work_size(batch, m, n) + 4, np.nan, np.float32)
    cuda.weight_gradient(dZ, X, aligned(work), dW, db)
    assert_close(dW, dZ.astype(np.float64).T @ X, "sum")
    assert_close(db, dZ.astype(np.float64).sum(axis=0), "sum")


def in_all_ways():
    """(tile, way of copying each operand): each way for both operands; two are quick."""
    pairs = ("along", "across"), ("across", "along"), ("along", "along"), ("across", "singly"), ("singly", "along")
    for tile, ways in itertools.product(async_tile.TILES, pairs):
        marks = [] if tile == 32 and ways in pairs[:2] else pytest.mark.slow
        yield pytest.param(tile, ways, marks=marks, id=f"{tile}-{'-'.join(ways)}")


@pytest.mark.parametrize("tile, ways", [*in_all_ways()])
def test_panels_pass_through_all_stages(tile, ways, monkeypatch):
    """Of every way of copying, in more panels than there are stages, the last one not full; whole numbers, so exact."""
    monkeypatch.setattr(products, "tile_of", lambda *given: tile)
    m, n, k = 12, 20, (async_tile.STAGES + 1) * async_tile.depth_of(tile) + (3 if "singly" in ways else 4)
    random = np.random.default_rng(tile)

    def placed(rows, terms, way):
        values = random.integers(-3, 4, (rows, terms)).astype(np.float32)
        if way == "singly":
            return Placed(values, "float32", "sliced").array
        return aligned(values) if way == "along" else aligned(values.T.copy()).T

    A, B, out = placed(m, k, ways[0]), placed(n, k, ways[1]).T, blank((m, n), "float32", "padded")
    cuda.matmul(A, B, None, out.array)
    assert np.array_equal(out.array, A @ B)
    out.assert_guarded()


def test_tiles_and_parts_keep_a_card_busy():
    """Products of the race's nets: each has at least 128 blocks for 132 multiprocessors."""
    for layers, batch in (([(64, 64)] * 2, 8192), ([(256, 256)] * 3, 512), ([(256, 256)] * 3, 8192)):
        gradients = tuple((n_out, n_in, batch) for n_in, n_out in layers)
        parts = products.parts_of(gradients, 132, True)
        for sizes, cut in ((gradients[0], parts), ((batch, *layers[0]), 1)):
            tile = products.tile_of(sizes, cut, 132)
            assert -(-sizes[0] // tile) * -(-sizes[1] // tile) * cut >= 128
    wide = (1024, 1024, 8192), (1024, 1024, 512)
    assert [products.parts_of((sizes,), 132) for sizes in wide] == [2, 1]
    assert [products.tile_of(sizes, parts, 132) for sizes, parts in zip(wide, (2, 1), strict=True)] == [128, 64]


def test_a_warp_a_row_where_tiles_would_be_mostly_empty():
    """A small output layer: of up to 16 columns where there are few rows, of up to 10 with any number of them."""
    sizes = itertools.product((512, 131072), (8, 10, 16, 17))
    few = [(m, n) for m, n in sizes if products.has_few_columns((m, n, 1024), 132)]
    assert few == [(512, 8), (512, 10), (512, 16), (131072, 8), (131072, 10)]


@pytest.mark.parametrize("tile", [128, pytest.param(32, marks=pytest.mark.slow)])
def test_tiles_of_a_layer(tile, monkeypatch):
    """With activations and slopes, of operands that are transposed on the way; sums that end within a panel."""
    monkeypatch.setattr(products, "tile_of", lambda *given: tile)
    X, W, Z = (aligned(normal(i, *s, dtype="float32")) for i, s in enumerate(((68, 20), (72, 20), (68, 72))))
    b, A = normal(3, 72, dtype="float32"), np.full((2, 68, 72), np.nan, np.float32)
    cuda.dense_forward(X, W, b, kernels.SILU, 0.0, None, *A)
    for result, expected in zip(A, reference.dense_forward(X, W, b, "silu", 0.0), strict=True):
        assert_close(result, expected, "sum")
    dX = np.full_like(Z, np.nan)
    cuda.input_gradient(X, aligned(W.T.copy()), kernels.SILU, 0.0, Z, Z, dX)
    assert_close(dX, reference.activation_backward("silu", X.astype(np.float64) @ W.T, Z), "sum")


@pytest.mark.parametrize(
    "tile,m,n,k", [(128, 66, 67, 19), pytest.param(128, 131, 129, 35, marks=pytest.mark.slow), (32, 35, 33, 67)]
)
def test_tiles_of_any_strides(tile, m, n, k, monkeypatch):
    monkeypatch.setattr(products, "tile_of", lambda *given: tile)
    A, B = Placed(normal(1, m, k), "float32", "sliced"), Placed(normal(2, k, n), "float32", "reversed")
    out = blank((m, n), "float32", "padded")
    cuda.matmul(A.array, B.array, None, out.array)
    assert_close(out.array, A.array.astype(np.float64) @ B.array.astype(np.float64), "sum")
    out.assert_guarded()


def test_older_gpus_take_other_products(monkeypatch):
    made, A = [], np.ones((70, 70), np.float32)
    monkeypatch.setattr(products, "run", lambda kernel, *more, **named: made.append(kernel.fn.__module__))
    for past in (True, False):
        monkeypatch.setattr(products, "copies_past_registers", lambda past=past: past)
        products.multiply(np.float32, 0, (70, 70, 70), *[products.Side(A.ctypes.data, 70, 1)] * 3)
    assert [name.rpartition(".")[2] for name in made] == ["async_tile", "tile"]


def test_copies_are_there_when_they_were_waited_for(monkeypatch):
    monkeypatch.undo()  # a watched pointer belongs to a thread of a kernel
    source, to = aligned(normal(1, 16, dtype="float32")), aligned(np.zeros(16, np.float32))
    here, there = (plain.Pointer(array.ctypes.data, "float32") for array in (source, to))
    plain.copy4_async(there, here, True)
    plain.copy4_async(there + 4, here + 4, False)
    assert np.isnan(to[:8]).all()
    plain.await_copies()
    assert np.array_equal(to[:4], source[:4]) and not to[4:].any()
    plain.copy1_async(there + 5, here + 1, True)
    plain.await_copies()
    assert to[5] == source[1]
    for group in range(4):
        plain.copy4_async(there + 4 * group, here + 4 * group, True)
        plain.close_copies()
    plain.await_copies_but_two()
    assert np.array_equal(to[:8], source[:8]) and np.isnan(to[8:]).all()
    plain.await_copies()
    assert np.array_equal(to, source)
    with pytest.raises(AssertionError, match="a copy of 16 bytes"):
        plain.copy4_async(there, here + 1, True)


@pytest.mark.parametrize(
    "name, dtype", [("linear", "float32"), ("gelu", "float64"), ("elu", "float32"), ("softmax", "float64")]
)
def test_dense(name, dtype):
    param = reference.DEFAULT_PARAM.get(name, 0.0)
    for m, n_in, n_out in ((3, 5, 20), (11, 4, 3)):
        X, W, b = (normal(i, *s, dtype=dtype) for i, s in enumerate(((m, n_in), (n_out, n_in), (n_out,))))
        Z, A = np.full((2, m, n_out), np.nan, dtype)
        cuda.dense_forward(X, W, b, code(name), param, None, Z, A)
        right_Z, right_A = reference.dense_forward(X, W, b, name, param)
        assert_close(Z, right_Z, "sum")
        assert_close(A, right_A, "sum")
        dA = normal(5, m, n_out, dtype=dtype)
        right = reference.dense_backward(dA, Z, X, W, name, param)
        dX, dW, db = (np.full(s, np.nan, dtype) for s in (X.shape, W.shape, b.shape))
        cuda.dense_backward(dA, Z, A, X, W, code(name), param, None, dX, dW, db)
        for result, expected in zip((dA, dX, dW, db), right, strict=True):
            assert_close(result, expected, "sum")


def test_input_gradient_takes_the_slope_of_the_layer_before(dtype):
    dZ, W, Z = (normal(i, *s, dtype=dtype) for i, s in enumerate(((9, 12), (12, 10), (9, 10))))
    A, dX = reference.activation("silu", Z).astype(dtype), np.full((9, 10), np.nan, dtype)
    cuda.input_gradient(dZ, W, kernels.SILU, 0.0, Z, A, dX)
    assert_close(dX, reference.activation_backward("silu", dZ.astype(np.float64) @ W, Z), "sum")


def test_nan_and_infinity_travel_through():
    Z = np.array([[np.nan, np.inf, 1.0], [2.0, 3.0, 4.0]], np.float32)
    A = np.empty_like(Z)
    cuda.activation_forward(kernels.SOFTMAX, 0.0, Z, A)
    assert np.isnan(A[0]).all() and np.isfinite(A[1]).all()
    cuda.activation_forward(kernels.RELU, 0.0, Z, A)
    assert np.isnan(A[0, 0]) and A[0, 1] == np.inf
    cuda.matmul(Z, np.ones((3, 9), np.float32), None, out := np.empty((2, 9), np.float32))
    assert np.isnan(out[0]).all() and np.isfinite(out[1]).all()


@pytest.mark.parametrize("name", sorted(set(contract.CONTRACTS) & set(cuda.__all__)))
def test_kernels_refuse_with_the_words_of_the_cpu(name):
    more = {"result": np.ones(losses.RESULT)} if name.startswith("loss_") else {}
    refuse_all(getattr(cuda, name), **more)
    with pytest.raises(TypeError, match="must be a device array .*; got list"):
        getattr(cuda, name)(**example(getattr(cuda, name)) | more | {next(iter(contract.CONTRACTS[name])): [1.0]})


def test_the_result_of_a_loss_is_checked():
    Z, result = np.zeros((2, 3)), np.zeros(losses.RESULT)
    with pytest.raises(ValueError, match="result must have 258 consecutive elements"):
        cuda.loss_forward(kernels.MSE, 0.0, Z, Z, None, np.zeros(3))
    with pytest.raises(TypeError, match="result must be an array of float64"):
        cuda.loss_forward(kernels.MSE, 0.0, Z, Z, None, result.astype("f4"))


def test_public_names_are_documented():
    for name in cuda.__all__:
        thing = getattr(cuda, name)
        if "Parameters" in (thing.__doc__ or ""):
            assert documented(thing.__doc__) == list(inspect.signature(thing).parameters), name
    twins = set(cpu.__all__) & set(cuda.__all__)
    assert {"matmul", "dense_forward", "dense_backward", "loss_backward", "adam_update", "dropout"} <= twins
    for name in twins - {"loss_forward", "loss_backward"}:  # which write the loss into an array of the device
        mine = getattr(cpu, name)
        shared = [each for each in inspect.signature(getattr(mine, "py_func", mine)).parameters if each != "threads"]
        taken = list(inspect.signature(getattr(cuda, name)).parameters)
        assert taken == [
            *shared,
            *(more for more in ("stream", "precision") if more in taken and more not in shared),
        ], name


def test_nothing_is_done_for_no_rows():
    Z = np.zeros((0, 3))
    cuda.activation_forward(kernels.SIGMOID, 0.0, Z, Z)
    cuda.matmul(Z, np.ones((3, 12)), None, np.empty((0, 12)))
