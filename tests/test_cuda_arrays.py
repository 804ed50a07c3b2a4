"""Nets that take and give arrays in the memory of a GPU; `pytest -m cuda`.

In the simulator, where `test_cuda_scripts.py` runs this file, too, stand-ins for the libraries have arrays of NumPy.
"""

import importlib.util

import gpu
import nets
import numpy as np
import pytest
from arrays import normal
from test_cuda_interop import CuPy, Numba, Torch
from tolerance import assert_close, assert_near

import fastnn
from fastnn import arrays

if importlib.util.find_spec("numba_cuda"):  # else all of this is deselected
    from fastnn.kernels.cuda import arrays as device_arrays
    from fastnn.kernels.cuda.memory import Memory

pytestmark = pytest.mark.cuda
SIMULATED = gpu.SIMULATED
ROWS, WIDTHS = (12, (3, 4, 2)) if SIMULATED else (4099, (33, 64, 10))
ACTIVATIONS, LOSS = ("tanh", "softmax"), "cross_entropy"
KINDS = [gpu.Foreign, gpu.CuPyArray, gpu.Tensor] if SIMULATED else [Numba, CuPy, Torch]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def library(request, monkeypatch):
    return gpu.StandIn(request.param, monkeypatch) if SIMULATED else request.param()


def both_nets(dtype="float32", **options):
    """The same net on the CPU and on the GPU."""
    return [nets.pair(WIDTHS, ACTIVATIONS, LOSS, dtype, device=device, **options)[0] for device in ("cpu", "cuda")]


def data(dtype="float32"):
    X, y = nets.data(ROWS, WIDTHS[0], WIDTHS[-1], LOSS, dtype)
    return X, y.astype(np.int64)


def fit_both(here, there, X, y, given_X, given_y, **settings):
    """Fits of the two nets, on arrays of the host and on what stands for them."""
    histories = here.fit(X, y, fastnn.SGD(0.05), **settings), there.fit(given_X, given_y, fastnn.SGD(0.05), **settings)
    assert_close(histories[1].loss, histories[0].loss, "training", str(here.dtype))
    assert_near(there.parameters, here.parameters, "training")
    return histories


def test_everything_takes_them_and_gives_back_their_kind(library):
    here, there = both_nets()
    X, y = data()
    w = np.linspace(0.5, 2.0, ROWS)
    given_X, given_y, given_w = map(library.array, (X, y, w))
    settings = dict(epochs=2, batch_size=ROWS // 2)
    here.fit(X, y, sample_weight=w, **settings)
    there.fit(given_X, given_y, sample_weight=given_w, **settings)
    assert_near(there.parameters, here.parameters, "training")
    outputs, slope = there.predict(given_X), there.input_gradient(given_X, given_y)
    kind = type(given_X) if not SIMULATED or type(given_X) is not gpu.Foreign else np.ndarray
    assert type(outputs) is type(slope) is kind  # Numba's own array, which is NumPy's in the simulator, for all others
    assert_near(library.read(outputs), here.predict(X), "training")
    assert_near(library.read(slope), here.input_gradient(X, y), "training")
    assert isinstance(there.predict(X), np.ndarray)
    assert np.array_equal(there.predict_labels(given_X), library.read(outputs).argmax(axis=1))
    right, found = here.evaluate(X, y, w), there.evaluate(given_X, given_y, given_w)
    assert_close(found["loss"], right["loss"], "training", "float32")
    assert found["accuracy"] == right["accuracy"]
    for one, other in zip(there.loss_and_gradient(given_X, given_y), here.loss_and_gradient(X, y), strict=True):
        assert isinstance(one, float | np.ndarray)
        assert_near(one, other, "training", "float32")  # of the net: the loss itself is a Python float


@pytest.mark.parametrize("layout", ["C", "padded"])
def test_rows_are_read_where_they_stand(layout, monkeypatch, dtype):
    """And outputs are written where they stay: nothing as large as X, or as the outputs, is copied."""
    here, there = both_nets(dtype)
    X, y = data(dtype)
    given, copied = gpu.OnGpu(X, dtype, layout), []
    found = device_arrays.rows(given, np.dtype(dtype))
    assert found.__cuda_array_interface__["data"][0] == given.__cuda_array_interface__["data"][0]
    assert found[2:5].place.address == found.place.address + 2 * found.strides[0]

    def watched(memory, name, *more, reserve=Memory.reserve):
        copied.append(name)
        return reserve(memory, name, *more)

    def watched_together(memory, lay_out=Memory.lay_out, **sizes):
        copied.extend(sizes)
        lay_out(memory, **sizes)

    monkeypatch.setattr(Memory, "reserve", watched)
    monkeypatch.setattr(Memory, "lay_out", watched_together)
    monkeypatch.setattr(device_arrays, "_taken", None)
    fit_both(here, there, X, y, given, y, epochs=1, batch_size=5 if SIMULATED else 100)
    there.predict(given)
    no_twins = {"X"} if SIMULATED else {"X", "OUT"}  # outputs of the simulator are NumPy arrays
    assert "Y" in copied and not no_twins & set(copied)
    given.assert_unchanged()


CONVERTED = [("float32", "F"), ("float32", "sliced"), ("float32", "reversed"), ("float64", "C"), ("int64", "C")]
CONVERTED += [("uint8", "C"), ("bool", "C"), ("int16", "C")]


@pytest.mark.parametrize("kind,layout", CONVERTED)
def test_others_are_converted_on_the_device(kind, layout):
    here, there = both_nets()
    X = np.rint(4 * abs(data()[0])).astype(kind)
    given = gpu.OnGpu(X, kind, layout) if X.dtype.kind == "f" else gpu.Foreign(X)
    found = device_arrays.rows(given, np.dtype("float32"))
    assert found.__cuda_array_interface__["data"][0] != given.__cuda_array_interface__["data"][0]
    assert np.array_equal(np.asarray(found), X.astype("float32"))
    outputs = there.predict(given)
    assert_near(outputs if SIMULATED else outputs.copy_to_host(), here.predict(X), "training")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("layout", ["C", "padded", "reversed"])
def test_what_is_not_finite_is_refused_with_the_words_of_the_cpu(value, layout):
    here, there = both_nets()
    X, y = data()
    kind = "float64" if value == 1e300 else "float32"
    X = X.astype(kind)
    X[3, 1] = X[3, 2] = X[ROWS - 2, 0] = value
    with pytest.raises(ValueError, match="at row 3, column 1") as right:
        here.fit(X, y)
    given = gpu.OnGpu(X, kind, layout)
    before = there.parameters.copy()
    for use in (there.fit, there.evaluate, there.loss_and_gradient, there.partial_fit, there.input_gradient):
        with pytest.raises(ValueError) as refused:
            use(given, y)
        assert str(refused.value) == str(right.value)
    assert np.array_equal(there.parameters, before)
    outputs = there.predict(given)
    outputs = outputs if SIMULATED else outputs.copy_to_host()
    assert np.array_equal(np.isnan(outputs), np.isnan(here.predict(X)))
    assert np.isfinite(outputs[:3]).all()
    for name, batch in (("batch 1: X", [(X[:3], y[:3]), (given, y)]), ("batch 0: X", [(given, y)])):
        with pytest.raises(ValueError, match=f"{name} must be .*at row 3, column 1"):
            there.fit(batch)
    with pytest.raises(ValueError, match="validation X must be .*at row 3, column 1"):
        there.fit(X[:3], y[:3], validation_data=(given, y))


@pytest.mark.parametrize("shuffle", [True, False])
def test_split_weighted_standardised_and_scored(shuffle):
    here, there = (
        fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(2, "softmax")], device=device, standardize=True)
        for device in ("cpu", "cuda")
    )
    X, y = data()
    X, y = 3 * X + 1, y % 2
    settings = dict(epochs=2, batch_size=4 if SIMULATED else 100, shuffle=shuffle, validation_split=0.3)
    more = dict(class_weight="balanced", metrics=["accuracy"])
    given = gpu.Foreign(X)
    right, found = fit_both(here, there, X, y, given, y, **settings, **more)
    assert_close(found.validation_loss, right.validation_loss, "training", "float32")
    assert np.array_equal(found.metrics["accuracy"], right.metrics["accuracy"])
    slope = there.input_gradient(given, y)
    assert_near(slope if SIMULATED else slope.copy_to_host(), here.input_gradient(X, y), "training")
    assert np.array_equal(gpu.Foreign.read(given), X)


def test_batches_and_single_steps():
    here, there = both_nets()
    X, y = data()
    part = ROWS // 3
    pieces = [(X[i : i + part], y[i : i + part]) for i in range(0, 3 * part, part)]
    given = [(gpu.Foreign(X), gpu.Foreign(y)) for X, y in pieces]
    given[1] = pieces[1]  # one of the host among them
    fit_both(here, there, pieces, None, given, None, epochs=2)
    held_out = dict(validation_data=(gpu.Foreign(X), y))
    there.fit(pieces, epochs=1, **held_out)
    here.fit(pieces, epochs=1)
    assert there.partial_fit(*given[0]) == pytest.approx(here.partial_fit(*pieces[0]), rel=1e-4)


def test_targets_and_weights_are_checked_as_ever():
    _, there = both_nets()
    X, y = data()
    given = gpu.Foreign(X)
    with pytest.raises(ValueError, match="y must be class indices .*; got 99 at row 0"):
        there.fit(given, gpu.Foreign(y + 99 - y[0]))
    with pytest.raises(ValueError, match="sample_weight must be .*; got -1.0 at row 0"):
        there.fit(given, y, sample_weight=gpu.Foreign(-np.ones(ROWS)))
    turned = np.arange(12).reshape(3, 4)[::-1, ::2]
    view = gpu.Foreign(np.arange(12).reshape(3, 4))
    view.facts |= {"shape": (3, 2), "strides": (-32, 16), "data": (view.facts["data"][0] + 64, False)}
    assert np.array_equal(arrays.host("y", view, "cuda"), turned)
    assert arrays.host("y", gpu.Foreign(np.zeros((0, 2))), "cuda").shape == (0, 2)


def test_what_cannot_be_rows_is_refused():
    _, there = both_nets()
    X, y = data()
    for values, error, words in (
        (X[0], ValueError, r"X must be a 2-D array of numbers \(samples x features\); got an array of shape"),
        (X[:0], ValueError, "X must be an array of at least one sample"),
        (X[:, 1:], ValueError, f"X must be an array of {WIDTHS[0]} features"),
        (X.astype(np.float16), TypeError, "X must be an array of float32, .*; got an array of dtype float16"),
        (X.astype(complex), TypeError, "X must be an array of float32, .*; got an array of dtype complex128"),
    ):
        with pytest.raises(error, match=words):
            there.predict(gpu.Foreign(values))
    between = gpu.Foreign(X)
    between.facts["strides"] = (4 * WIDTHS[0] + 2, 4)
    with pytest.raises(ValueError, match="X must be an array whose elements stand at multiples of their size"):
        there.predict(between)


def test_what_was_queued_before_is_waited_for(monkeypatch):
    waits = []

    def synchronize(wait=device_arrays.cuda.synchronize):
        waits.append(True)
        wait()

    monkeypatch.setattr(device_arrays.cuda, "synchronize", synchronize)
    _, there = both_nets()
    there.predict(gpu.Foreign(data()[0]))
    assert waits
    if SIMULATED:
        return
    torch = Torch().torch
    here, there = both_nets()
    X, y = data()
    given, busy = torch.zeros(X.shape, device="cuda"), torch.ones((8192, 8192), device="cuda")
    ready = torch.tensor(X, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(20):
            busy = busy @ busy
        given.copy_(ready)
    assert_near(there.predict(given).cpu().numpy(), here.predict(X), "training")


def test_a_place_is_found_wherever_it_is():
    """The first of several, by one warp or by many."""
    X = normal(1, 40, 33, dtype="float32")
    for warps in (1, 3, 9):
        for places in ([(0, 0)], [(39, 32)], [(7, 30), (7, 2), (8, 0)], []):
            Z = X.copy()
            for place in places:
                Z[place] = np.nan
            found = gpu.Foreign(np.full(warps, -1))
            device_arrays.first_not_finite(gpu.OnGpu(Z, "float32", "padded"), found)
            expected = min((33 * i + j for i, j in places), default=Z.size)
            assert found.read().min() == expected
