"""Products of operands rounded to bfloat16, on the tile unit of a CPU; what needs the unit is skipped without it."""

import os

import numpy as np
import pytest
import recipes
import reference
from arrays import normal
from nets import flat
from numba import njit
from tolerance import assert_near

import fastnn
from fastnn.kernels.cpu import amx, bfloat16
from fastnn.kernels.cpu.amx import configure_tiles, release_tiles
from fastnn.kernels.cpu.memory import address_of
from fastnn.kernels.plan import aligned

has_unit = pytest.mark.skipif(not amx.works(), reason="no unit for products of bfloat16 numbers (AMX)")
ULP = 2.0**-24  # of float32, half of one


def rounded(values):
    return reference.rounded(np.asarray(values, np.float32), "bf16")


# Operands and products ------------------------------------------------------------------------------------------------


@njit
def multiply(A, B, along_a, along_b, a, b, C, start):
    """C = A B, or C + A B, from operands made of A (m, k) or of its transpose, and of B (k, n) or of its transpose."""
    m, n = C.shape
    k = A.shape[1] if along_a else A.shape[0]
    steps = (k + 31) // 32
    left, right = address_of(a), address_of(b)
    if along_a:
        bfloat16.rows_of_a(m, k, address_of(A), A.shape[1], left, steps)
    else:
        bfloat16.turned_rows_of_a(m, k, address_of(A), A.shape[1], left, steps)
    if along_b:
        bfloat16.turned_columns_of_b(n, k, address_of(B), B.shape[1], right, steps)
    else:
        bfloat16.columns_of_b(n, k, address_of(B), B.shape[1], right, steps)
    configure_tiles()
    bfloat16.product_rounded(m, n, steps, left, steps, right, steps, address_of(C), n, start)
    release_tiles()


def product(A, B, along_a, along_b, C, start):
    (m, k), n = A.shape, B.shape[1]
    a, b = (aligned(bfloat16.operand_size(lanes, k), np.float32) for lanes in (m, n))
    a[:] = b[:] = np.nan  # what an operand leaves out shows
    left, right = (np.ascontiguousarray(X if along else X.T) for X, along in ((A, along_a), (B.T, along_b)))
    with np.errstate(all="ignore"):
        multiply(left, right, along_a, along_b, a, b, C, start)
    return C


def check_product(m, n, k, along_a, along_b, start):
    """Beside the float64 product of the rounded operands: k additions, each with an error of half an ulp of a sum."""
    A, B, C = (normal(i, *shape).astype(np.float32) for i, shape in enumerate(((m, k), (k, n), (m, n))))
    expected = rounded(A) @ rounded(B) + C * (start == bfloat16.ACCUMULATE)
    most = np.abs(rounded(A)) @ np.abs(rounded(B)) + np.abs(C)
    found = product(A, B, along_a, along_b, C, start)
    assert np.all(np.abs(found - expected) <= (k + 1) * ULP * most)


@has_unit
@pytest.mark.parametrize("start", [bfloat16.ZERO, bfloat16.ACCUMULATE])
@pytest.mark.parametrize("along", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (32, 32, 32), (33, 16, 65), (100, 47, 31), (64, 96, 300)])
def test_products_are_those_of_the_rounded_operands(shape, along, start):
    check_product(*shape, *along, start)


@has_unit
@pytest.mark.parametrize("along", [False, True])
def test_ties_go_to_even_and_nan_and_infinity_travel_on(along):
    ulp = 2.0**-8
    given = [1 + ulp, 1 + 3 * ulp, -1 - ulp, 1 + 1.01 * ulp, 3e38, -np.inf, np.inf, np.nan, 0.0, 1e-40]
    expected = [1.0, 1 + 4 * ulp, -1.0, 1 + 2 * ulp, float(rounded(3e38)), -np.inf, np.inf, np.nan, 0.0, 0.0]
    A = np.array(given, np.float32)[:, None]
    found = product(A, np.ones((1, 1), np.float32), along, along, np.zeros((len(given), 1), np.float32), bfloat16.ZERO)
    np.testing.assert_array_equal(found[:, 0], np.array(expected, np.float32))


# Nets -----------------------------------------------------------------------------------------------------------------

PARTS = (130, 230, 70), 301  # the gradient is made part by part
BLOCKS = (70, 90, 75, 66), 1000  # shard by shard, block by block
ONE_BLOCK = (70, 90, 75, 66), 45


def make(widths, precision="bf16", hidden="relu", device="cpu", **settings):
    layers = [*(fastnn.Dense(n, hidden) for n in widths[1:-1]), fastnn.Dense(widths[-1], "softmax")]
    net = fastnn.Sequential(layers, precision=precision, device=device, seed=3, **settings)
    return net.build(widths[0])


def batch(widths, m):
    return normal(1, m, widths[0]).astype(np.float32), np.arange(m) % widths[-1]


def gradients(weights, X, y, rounding):
    """Of the mean cross-entropy of a net with relu: [dW, db, ...] in float64, `rounding` the operands of products."""
    layers, A, inputs, outputs = list(zip(weights[::2], weights[1::2], strict=True)), X, [], []
    for number, (W, b) in enumerate(layers, 1):
        inputs.append(A)
        outputs.append(rounding(A) @ rounding(W).T + b)
        A = np.maximum(outputs[-1], 0.0) if number < len(layers) else outputs[-1]
    delta = np.exp(A - A.max(axis=1, keepdims=True))
    delta = (delta / delta.sum(axis=1, keepdims=True) - np.eye(A.shape[1])[y]) / len(X)
    found = []
    for i in reversed(range(len(layers))):
        found = [rounding(delta).T @ rounding(inputs[i]), delta.sum(axis=0), *found]
        if i > 0:
            delta = rounding(delta) @ rounding(layers[i][0]) * (outputs[i - 1] > 0.0)
    return found


@has_unit
@pytest.mark.parametrize(("widths", "m"), [PARTS, BLOCKS, ONE_BLOCK])
def test_gradients_are_those_of_rounded_operands(widths, m):
    net, (X, y) = make(widths), batch(widths, m)
    gradient = net.loss_and_gradient(X, y)[1]
    X, *weights = (np.asarray(array, np.float64) for array in (X, *net.get_weights()))
    plain, parts = gradients(weights, X, y, np.asarray), [part for pair in net.parameter_slices for part in pair]
    for part, right, other in zip(parts, gradients(weights, X, y, rounded), plain, strict=True):
        # sums that differ in their last bits are sometimes rounded to neighbours
        assert_near(gradient[part].reshape(right.shape), right, "rounded", what=str(right.shape))
        assert right.ndim == 1 or np.linalg.norm(other - right) > 2e-3 * np.linalg.norm(right)


@has_unit
@pytest.mark.parametrize(("widths", "m"), [PARTS, BLOCKS, ONE_BLOCK])
def test_the_same_bits_on_any_number_of_threads(widths, m):
    results = []
    for threads in (1, 2, 5):
        net, (X, y) = make(widths, hidden="silu"), batch(widths, m)
        given = dict(batch_size=m - 44, l2=0.01, sample_weight=np.arange(m) % 3, threads=threads)
        history = net.fit(X, y, optimizer=fastnn.Adam(0.01, clip_norm=1.0), epochs=2, **given)
        results.append((flat(net.get_weights()), history.loss, net.predict(X, threads=threads)))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@has_unit
def test_every_way_to_train_gives_the_same_bits():
    (widths, m), rates = PARTS, [0.01, 0.02]
    X, y = batch(widths, m)
    fitted, stepped, applied = (make(widths) for _ in range(3))
    fitted.fit(X, y, optimizer=fastnn.Adam(0.01), epochs=3, batch_size=None, shuffle=False)
    rule, other = fastnn.Adam(0.01), fastnn.Adam(0.01)
    for _ in range(3):
        stepped.partial_fit(X, y, optimizer=rule)
        applied.apply_gradient(applied.loss_and_gradient(X, y)[1], optimizer=other)
    assert np.array_equal(flat(fitted.get_weights()), flat(stepped.get_weights()))
    assert np.array_equal(flat(fitted.get_weights()), flat(applied.get_weights()))
    sweep = fastnn.Sweep(
        [*(fastnn.Dense(n, "relu") for n in widths[1:-1]), fastnn.Dense(widths[-1], "softmax")],
        optimizer=fastnn.Adam,
        learning_rate=rates,
        precision="bf16",
        seed=3,
        batch_size=64,
    )
    for trial in sweep.fit(X, y, epochs=2, validation_data=(X, y), keep=2, threads=2).trials:
        net = make(widths)
        net.fit(X, y, optimizer=fastnn.Adam(trial.values["learning_rate"]), epochs=2, batch_size=64)
        assert np.array_equal(flat(net.get_weights()), flat(trial.nets[0].get_weights()))
        assert trial.scores["loss"][0] == net.evaluate(X, y)["loss"]


@has_unit
def test_what_is_not_rounded():
    X, y = batch((100, 9), 64)
    small, by_rows = (100, 63, 9), (1000, 90, 9)  # of too few units; samples are taken as they lie
    for widths in (small, by_rows):
        X, y = batch(widths, 64)
        nets = [make(widths, precision) for precision in ("bf16", "float32")]
        gradients = [net.loss_and_gradient(X, y)[1] for net in nets]
        assert np.array_equal(*gradients)
    nets = [make(ONE_BLOCK[0], precision) for precision in ("bf16", "float32")]
    X, _ = batch(*ONE_BLOCK)
    assert np.array_equal(*(net.predict(X[:16]) for net in nets))
    assert not np.array_equal(*(net.predict(X) for net in nets))


@has_unit
def test_columns_dropout_and_derivatives():
    m = 300
    table = {"a": normal(1, m), "code": np.arange(m) % 50, "b": normal(2, m)}
    y = np.tanh(table["a"]) + (table["code"] > 20)

    def fitted(precision):
        columns = fastnn.Columns({"a": fastnn.Number(), "code": fastnn.Code(dim=64), "b": fastnn.Number()})
        layers = [columns, fastnn.Dense(128, "relu"), fastnn.Dropout(0.2), fastnn.Dense(64, "tanh"), fastnn.Dense(1)]
        net = fastnn.Sequential(layers, precision=precision, seed=1)
        return net.fit(table, y, optimizer=fastnn.Adam(0.003), epochs=20, batch_size=64)

    history, exact = fitted("bf16"), fitted("float32")
    assert history.loss[-1] < 0.2 * history.loss[0]
    np.testing.assert_allclose(history.loss, exact.loss, rtol=0.1)
    assert history.loss[-1] != exact.loss[-1]
    X = normal(1, 40, 90).astype(np.float32)
    slopes = [make((90, 70, 64), precision, hidden="tanh").jacobian(X) for precision in ("bf16", "float32")]
    assert_near(*slopes, "bf16")
    assert not np.array_equal(*slopes)


@has_unit
def test_a_file_and_a_pickle_keep_the_precision(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    net, (X, _) = make(ONE_BLOCK[0]), batch(*ONE_BLOCK)
    net.save(tmp_path / "net.fastnn")
    loaded = fastnn.load(tmp_path / "net.fastnn")
    assert loaded.precision == "bf16" and np.array_equal(loaded.predict(X), net.predict(X))
    monkeypatch.setattr(amx, "works", lambda: False)
    elsewhere = fastnn.load(tmp_path / "net.fastnn")
    assert elsewhere.precision == "float32"
    assert np.array_equal(elsewhere.predict(X), make(ONE_BLOCK[0], "float32").predict(X))


# Where it is refused --------------------------------------------------------------------------------------------------


def test_it_is_refused_without_the_unit(monkeypatch):
    monkeypatch.setattr(amx, "works", lambda: False)
    refusal = "precision must be 'float32' with device='cpu', which has no unit for bfloat16 .*; got 'bf16'"
    with pytest.raises(ValueError, match=refusal):
        make(ONE_BLOCK[0])
    net = make(ONE_BLOCK[0], device="auto")
    with pytest.raises(ValueError, match=refusal):
        net.device = "cpu"
    gradient = net.loss_and_gradient(*batch(*ONE_BLOCK))[1]
    assert np.array_equal(gradient, make(ONE_BLOCK[0], "float32").loss_and_gradient(*batch(*ONE_BLOCK))[1])


@has_unit
def test_what_else_is_refused():
    with pytest.raises(ValueError, match="precision must be 'float32' or 'bf16' with device='cpu'; got 'tf32'"):
        make(ONE_BLOCK[0], "tf32")
    with pytest.raises(ValueError, match="precision must be 'float32' for a net of float64; got 'bf16'"):
        make(ONE_BLOCK[0], dtype="float64")


@pytest.mark.parametrize("missing", ["processor", "system", "permission"])
def test_the_unit_must_be_there_and_permitted(missing, monkeypatch):
    class Library:
        def __init__(self, name):
            pass

        def syscall(self, *numbers):
            return -1 if missing == "permission" else 0

    monkeypatch.setattr(amx, "has_bfloat16_tiles", lambda: missing != "processor")
    monkeypatch.setattr(amx.sys, "platform", "win32" if missing == "system" else "linux")
    monkeypatch.setattr(amx.ctypes, "CDLL", Library)
    assert not amx.works.__wrapped__()
    monkeypatch.setattr(amx, "has_bfloat16_tiles", lambda: True)
    monkeypatch.setattr(amx.sys, "platform", "linux")
    monkeypatch.setattr(Library, "syscall", lambda self, *numbers: 0)
    assert amx.works.__wrapped__()


# On real data ---------------------------------------------------------------------------------------------------------


@has_unit
def test_mnist_is_learned_as_in_float32():
    path = recipes.data_directory() / "mnist.npz"
    if not os.path.exists(path):
        pytest.skip(f"no {path} (set FASTNN_DATA)")
    with np.load(path) as data:
        X, y = data["X_train"][:6000].reshape(-1, 784) / np.float32(255.0), data["y_train"][:6000].astype(np.int64)
    losses = {}
    for precision in ("float32", "bf16"):
        net = make((784, 128, 64, 10), precision)
        losses[precision] = net.fit(X, y, optimizer=fastnn.Adam(1e-3), epochs=3, batch_size=128).loss
    assert losses["bf16"][-1] < 0.25
    np.testing.assert_allclose(losses["bf16"], losses["float32"], rtol=0.03)
