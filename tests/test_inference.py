"""Prediction of a few rows, from Python and from the user's own compiled code."""

import copy
import pickle

import nets
import numpy as np
import pytest
from arrays import LAYOUTS, Placed, as_array, blank, normal
from numba import njit
from numba.core.errors import TypingError
from tolerance import assert_close

import fastnn
from fastnn import backends, inference

# the user's function that calls `apply` is compiled with the net's dtype, and once more for one row
ROWS_OF = pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
ROW_OF = pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
HIDDEN = [("leaky_relu", 0.2), ("elu", 0.7), "relu", "tanh", "sigmoid", "softplus", "silu", "gelu", "gelu_tanh"]


@njit
def apply_placed(net, x, out):
    return fastnn.apply(net, as_array(x), as_array(out))


@njit
def apply_new(net, x):
    return fastnn.apply(net, x)


def expected(reference, weights, X):
    return reference.predict(weights, X.astype(np.float64))


@pytest.mark.parametrize("m", [1, 3, 16, 17, 40])
@pytest.mark.parametrize("hidden", HIDDEN, ids=str)
def test_every_activation_gives_what_the_reference_gives(hidden, m, dtype):
    widths = (5, 37, 6, 3)
    net, reference, weights = nets.pair(widths, (hidden, hidden, "softmax"), dtype=dtype)
    X = normal(1, m, 5, dtype=dtype)
    outputs = fastnn.apply(net.freeze(), X)
    assert_close(outputs, expected(reference, weights, X), "sum", what=f"{hidden} {m}")


@ROWS_OF
@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiled_code_may_pass_any_strides(layout, dtype):
    net, reference, weights = nets.pair(dtype=dtype)
    values = normal(2, 18, nets.WIDTHS[0], dtype=dtype)
    X, out = Placed(values, dtype, layout), blank((18, nets.WIDTHS[-1]), dtype, layout)
    apply_placed(net.freeze(), X.spec, out.spec)
    assert_close(out.array, expected(reference, weights, values), "sum")
    X.assert_unchanged()
    out.assert_guarded()


@ROW_OF
@pytest.mark.parametrize("layout", ["C", "sliced", "reversed"])
def test_compiled_code_may_pass_one_row(layout, dtype):
    net, reference, weights = nets.pair(dtype=dtype)
    values = normal(3, nets.WIDTHS[0], dtype=dtype)
    x, out = Placed(values, dtype, layout), blank((nets.WIDTHS[-1],), dtype, layout)
    apply_placed(net.freeze(), x.spec, out.spec)
    assert_close(out.array, expected(reference, weights, values[np.newaxis])[0], "sum")
    out.assert_guarded()


def test_python_and_compiled_code_agree_to_the_bit(dtype):
    net, _, _ = nets.pair(dtype=dtype)
    X, frozen = normal(4, 7, nets.WIDTHS[0], dtype=dtype), net.freeze()
    rows = fastnn.apply(frozen, X)
    assert rows.dtype == dtype
    assert np.array_equal(rows, apply_new(frozen, X))
    assert np.array_equal(rows, net.predict(X))
    for x, row in zip(X, rows, strict=True):
        out = np.empty_like(row)
        assert fastnn.apply(frozen, x, out) is out
        assert_close(out, row, "sum")
        assert np.array_equal(out, apply_new(frozen, x))


def test_a_few_rows_are_predicted_as_many_are(dtype):
    net, _, _ = nets.pair((30, 50, 4), ("tanh", "softmax"), dtype=dtype)
    X = normal(5, 3 * inference.FEW_ROWS, 30, dtype=dtype)
    together = net.predict(X)
    for m in (1, inference.FEW_ROWS, inference.FEW_ROWS + 1):
        assert_close(net.predict(X[:m]), together[:m], "sum")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_python_may_pass_any_strides(layout, dtype):
    net, reference, weights = nets.pair(dtype=dtype)
    values = normal(8, 6, nets.WIDTHS[0], dtype=dtype)
    X, out = Placed(values, dtype, layout), blank((6, nets.WIDTHS[-1]), dtype, layout)
    X.array.flags.writeable = False
    for outputs in (fastnn.apply(net.freeze(), X.array, out.array), net.predict(X.array)):
        assert_close(outputs, expected(reference, weights, values), "sum")
    out.assert_guarded()


def test_nan_and_infinity_travel_through(dtype):
    net, _, _ = nets.pair((4, 3, 2), ("relu", "linear"), loss="mse", dtype=dtype)
    X = np.zeros((2, 4), dtype)
    X[1, 2] = np.nan
    outputs = net.predict(X)
    assert np.isfinite(outputs[0]).all()
    assert np.isnan(outputs[1]).all()


def test_training_on_does_not_change_a_frozen_net():
    net, _, _ = nets.pair()
    X, y = nets.data()
    frozen = net.freeze()
    before = fastnn.apply(frozen, X)
    net.fit(X, y, epochs=2)
    assert np.array_equal(fastnn.apply(frozen, X), before)
    assert not np.array_equal(fastnn.apply(net.freeze(), X), before)
    with pytest.raises(ValueError, match="read-only"):
        frozen.parameters[0] = 1.0


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copied_net_predicts_rows_without_another_compilation(duplicate):
    net, _, _ = nets.pair()
    x = normal(6, 1, nets.WIDTHS[0])
    before = net.predict(x)
    known = len(getattr(backends.apply_rows, "signatures", ()))
    assert np.array_equal(duplicate(net).predict(x), before)
    assert len(getattr(backends.apply_rows, "signatures", ())) == known


def test_one_class_of_function_serves_new_weights():
    """The weights are an argument: a compiled function does not keep those that it saw first."""
    net, _, _ = nets.pair()
    x = normal(7, nets.WIDTHS[0])
    first = apply_new(net.freeze(), x)
    net.parameters *= 0.5
    assert not np.array_equal(apply_new(net.freeze(), x), first)
    assert np.array_equal(apply_new(net.freeze(), x), fastnn.apply(net.freeze(), x))


x5, read_only = np.zeros(5), np.zeros(3)
read_only.flags.writeable = False
BAD = {
    "a net that is not frozen": (lambda net, f: fastnn.apply(net, x5), TypeError, "net must be what net.freeze"),
    "features": (lambda net, f: fastnn.apply(f, np.zeros(4)), ValueError, "x must be an array of 5 features"),
    "dimensions": (lambda net, f: fastnn.apply(f, np.zeros((1, 1, 5))), ValueError, "x must be a 2-D array"),
    "text": (lambda net, f: fastnn.apply(f, "five"), TypeError, "x must be a 2-D array of numbers"),
    "no rows": (lambda net, f: fastnn.apply(f, np.zeros((0, 5))), ValueError, "x must be an array of at least one"),
    "out's shape": (lambda net, f: fastnn.apply(f, x5, np.zeros(4)), ValueError, r"out must be .* shape \(3,\)"),
    "out's dtype": (lambda net, f: fastnn.apply(f, x5, np.zeros(3, "f")), ValueError, "array of float64"),
    "a list as out": (lambda net, f: fastnn.apply(f, x5, [0.0] * 3), ValueError, "got list"),
    "read-only out": (lambda net, f: fastnn.apply(f, x5, read_only), ValueError, "can be written to"),
    "compiled: features": (lambda net, f: apply_new(f, np.zeros(4)), ValueError, "number of inputs"),
    "compiled: features of rows": (lambda net, f: apply_new(f, np.zeros((2, 4))), ValueError, "number of inputs"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, message = BAD[name]
    net, _, _ = nets.pair()
    with pytest.raises(error, match=message):
        call(net, net.freeze())


@pytest.mark.skipif(not hasattr(apply_new, "signatures"), reason="nothing is typed in plain Python")
@pytest.mark.parametrize("x", [np.zeros(5, "f"), np.zeros((1, 1, 5)), 1.0], ids=["dtype", "dimensions", "number"])
def test_compiled_code_refuses_wrong_types_when_it_is_typed(x):
    net, _, _ = nets.pair()
    with pytest.raises(TypingError, match="x must be an array of float64 with one or two dimensions"):
        apply_new(net.freeze(), x)


def test_an_unbuilt_net_cannot_be_frozen():
    with pytest.raises(fastnn.NotBuiltError):
        fastnn.Sequential([fastnn.Dense(1)]).freeze()
