"""What a caller may hand in: every form of good data gives one result, and bad input says what was wrong."""

import copy
import pickle
import re
import sys
import warnings

import numpy as np
import pytest
from nets import data, flat, pair

import fastnn
from fastnn import backends, validation

pd = pytest.importorskip("pandas")


class ArrayLike:
    """Something that only knows how to become an array."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype=dtype)


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def sliced(a):
    wide = np.full(tuple(3 * n for n in a.shape), 99.0).astype(a.dtype)
    wide[tuple([slice(1, None, 3)] * a.ndim)] = a
    return wide[tuple([slice(1, None, 3)] * a.ndim)]


def unaligned(a):
    """The same numbers one byte off, as a view of a packed file may have them."""
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def backwards(a):
    index = tuple([slice(None, None, -1)] * a.ndim)
    return a[index].copy()[index]


FORMS = {
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.tolist()),
    "list of arrays": list,
    "pandas": lambda a: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a),
    "pandas with other labels": lambda a: (
        pd.DataFrame(a, index=range(100, 100 + len(a))) if a.ndim == 2 else pd.Series(a, index=range(len(a))[::-1])
    ),
    "pandas, nullable": lambda a: (
        pd.DataFrame(a).convert_dtypes() if a.ndim == 2 else pd.Series(a, dtype=str(a.dtype).capitalize())
    ),
    "pandas, categories": lambda a: (
        pd.DataFrame({str(i): pd.Categorical(a[:, i]) for i in range(a.shape[1])}) if a.ndim == 2 else pd.Categorical(a)
    ),
    "masked, nothing": np.ma.masked_invalid,
    "record array": lambda a: a.view(np.recarray),
    "array-like": ArrayLike,
    "read-only": read_only,
    "F order": np.asfortranarray,
    "sliced": sliced,
    "negative strides": backwards,
    "unaligned": unaligned,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "object": lambda a: a.astype(object),
}


def whole_numbers():
    """X of small integers and three classes, so that every form and dtype holds them exactly."""
    rng = np.random.RandomState(0)
    X = rng.randint(-4, 5, (24, 5)).astype(np.float64)
    return X, rng.randint(0, 3, 24)


def results(X, y, w, net_dtype="float64"):
    """All that depends on the data, as one vector."""
    net, _, _ = pair(dtype=net_dtype)
    history = net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=3, batch_size=7, sample_weight=w)
    parts = [flat(net.get_weights()), history.loss, net.predict(X).ravel(), net.predict_labels(X)]
    loss, gradient = net.loss_and_gradient(X, y, sample_weight=w)
    parts += [
        [loss],
        gradient,
        net.input_gradient(X, y).ravel(),
        list(net.evaluate(X, y, sample_weight=w).values()),
    ]
    return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_data_gives_one_result(form, dtype):
    X, y = whole_numbers()
    w = np.linspace(0.5, 2.0, len(y))
    make = FORMS[form]
    assert np.array_equal(results(make(X), make(y), make(w), dtype), results(X, y, w, dtype))


@pytest.mark.parametrize("kind", ["float16", "float32", "int8", "int64", "uint16", ">f4", ">i2", "longdouble"])
def test_every_number_type_gives_one_result(kind, dtype):
    X, y = whole_numbers()
    X = np.abs(X) if kind.startswith("u") else X
    y_kind = "int8" if kind == "float16" else kind
    assert np.array_equal(results(X.astype(kind), y.astype(y_kind), None, dtype), results(X, y, None, dtype))


@pytest.mark.parametrize("y_kind", ["bool", "uint8", "int64", "float32", "float64"])
def test_two_classes_of_any_type(y_kind):
    X, _ = whole_numbers()
    y = X[:, 0] > 0
    found = []
    for target in (y.astype(float), y.astype(y_kind), y.astype(y_kind)[:, None], y.astype(y_kind).tolist()):
        net, _, _ = pair((5, 4, 1), ("tanh", "sigmoid"), "binary_cross_entropy")
        net.fit(X, target, optimizer=fastnn.SGD(0.1), epochs=3)
        found.append(flat(net.get_weights()))
    for other in found[1:]:
        assert np.array_equal(found[0], other)


def test_a_pandas_frame_of_mixed_number_types():
    X, y = whole_numbers()
    frame = pd.DataFrame(X, columns=list("abcde")).astype({"a": "int32", "b": "float32", "c": "int8"})
    assert np.array_equal(results(frame, pd.Series(y), None), results(X, y, None))


def test_float64_data_in_a_float32_net_is_rounded_once():
    X, y = data()
    rounded = X.astype(np.float32)
    assert np.array_equal(results(X, y, None, "float32"), results(rounded, y, None, "float32"))


def test_weights_may_have_any_form():
    X, _ = whole_numbers()
    net, _, weights = pair()
    expected = net.predict(X)
    for make in FORMS.values():
        net, _, _ = pair(weights=[np.zeros_like(w) for w in weights])
        net.set_weights([make(w) for w in weights])
        assert np.array_equal(net.predict(X), expected)


def test_the_callers_arrays_are_left_alone():
    X, y = data()
    w = np.linspace(0.5, 2.0, len(y))
    kept = X.copy(), y.copy(), w.copy()
    results(X, y, w)
    for array, before in zip((X, y, w), kept, strict=True):
        assert np.array_equal(array, before)


def test_predict_lets_nan_through_in_its_row_only(dtype):
    net, _, _ = pair(dtype=dtype)
    X, _ = data(dtype=dtype)
    clean = net.predict(X)
    X[3, 2] = np.nan
    found = net.predict(X)
    assert np.isnan(found[3]).all()
    assert np.array_equal(np.delete(found, 3, axis=0), np.delete(clean, 3, axis=0))


def test_a_row_that_has_no_outputs_has_no_label():
    X, _ = data()
    for k, last, loss in ((3, "softmax", "cross_entropy"), (1, "sigmoid", "binary_cross_entropy")):
        net, _, _ = pair((5, 4, k), ("tanh", last), loss)
        assert len(net.predict_labels(spoiled(X, np.inf))) == 40  # of which tanh makes a number
        for rows in (X, np.tile(X, (10, 1))):
            rows = rows.copy()
            rows[7, 2] = np.nan
            with pytest.raises(ValueError, match="^X must be .+; got row 7, whose outputs are NaN"):
                net.predict_labels(rows)


def test_a_masked_array_without_a_masked_entry_is_an_array():
    X, y = whole_numbers()
    assert np.array_equal(results(np.ma.array(X), np.ma.array(y, mask=False), None), results(X, y, None))
    gap = np.ma.array(X)
    gap[3, 1] = np.ma.masked
    with pytest.raises(ValueError, match="^X must be .+; got a masked entry at row 3, column 1"):
        built().predict(gap)


def test_labels_and_rows_are_read_before_a_callback_can_change_them(dtype):
    X, y = data(dtype=dtype)
    found = []
    for spoils in (False, True):
        labels, rows = y.astype(dtype), np.arange(0, 40, 2)
        apart = X, y.astype(dtype)

        def spoil(net, history, arrays=(labels, rows, apart[1]), spoils=spoils):
            for array in arrays if spoils else ():
                array[...] = 1 << 40

        net, _, _ = pair(dtype=dtype)
        settings = dict(epochs=4, batch_size=7, callbacks=[spoil], metrics=["accuracy"])
        history = net.fit(X, labels, rows=rows, validation_data=apart, **settings)
        found.append((net.parameters.tobytes(), history.validation_loss.tolist(), history.metrics["accuracy"].tolist()))
    assert found[0] == found[1]


def test_a_callback_may_give_the_callers_arrays_another_shape(dtype):
    X, y = data(k=1, loss="mse", dtype=dtype)
    found = []
    for shape in (None, (-1, 1)):
        given = [array.copy() for array in (X, y, X, y)]

        class Reshape(fastnn.Callback):
            def begin(self, run, given=given, shape=shape):
                for array in given if shape else ():
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        array.shape = shape

        net, _, _ = pair((5, 4, 1), ("tanh", "linear"), "mse", dtype=dtype)
        settings = dict(epochs=3, batch_size=7, callbacks=[Reshape()], metrics=["r2"])
        history = net.fit(*given[:2], validation_data=given[2:], **settings)
        found.append((net.parameters.tobytes(), history.validation_loss.tolist(), history.metrics["r2"].tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("label", [(1 << 24) + 1, 2.0 + 1e-9])
def test_labels_that_float32_cannot_tell_apart_are_refused(label):
    net = fastnn.Sequential([fastnn.Dense(1 << 25, "softmax")])
    with pytest.raises(ValueError, match=f"^y must be class indices .+; got {label} at row 1"):
        net.fit(X[:2], np.array([0, label]), epochs=1)
    assert net.parameters is None


# tables: their columns have names ---------------------------------------------------------------------------


class Table:
    """A table of another library."""

    def __init__(self, array, columns):
        self.array, self.columns = array, list(columns)

    def to_numpy(self):
        return self.array


TABLES = {"pandas": lambda array, columns: pd.DataFrame(array, columns=list(columns)), "another": Table}
USES = {
    "fit": lambda net, X, y: net.fit(X, y, epochs=1),
    "batches": lambda net, X, y: net.fit([(X, y)], epochs=1),
    "validation_data": lambda net, X, y: net.fit(data()[0], y, epochs=1, validation_data=(X, y)),
    "partial_fit": lambda net, X, y: net.partial_fit(X, y),
    "predict": lambda net, X, y: net.predict(X),
    "one row": lambda net, X, y: net.predict(X[:1] if isinstance(X, pd.DataFrame) else X),
    "predict_labels": lambda net, X, y: net.predict_labels(X),
    "evaluate": lambda net, X, y: net.evaluate(X, y),
    "loss_and_gradient": lambda net, X, y: net.loss_and_gradient(X, y),
    "input_gradient": lambda net, X, y: net.input_gradient(X, y),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_must_have_the_columns_that_the_net_was_trained_on(table):
    X, y = data()
    make, net = TABLES[table], fastnn.Sequential([fastnn.Dense(3, "softmax")])
    assert net.feature_names is None
    net.fit(make(X, "abcde"), y, epochs=1)
    assert net.feature_names == tuple("abcde")
    nets = net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))
    for one in nets:
        for use in USES.values():
            use(one, make(X, "abcde"), y)
            use(one, X, y)
            use(one, pd.DataFrame(X), y)
    for use in USES.values():
        for columns, given in (("abdce", "'d' in the place of 'c'"), ("abxde", "one without 'c'")):
            with pytest.raises(ValueError, match=rf"^(batch 0: |validation )?X must be .+ in their order; got {given}"):
                use(nets[2], make(X, columns), y)
    with pytest.raises(ValueError, match="^X must be an array of 5 features"):
        net.predict(make(X[:, :4], "abcd"))


def test_names_are_known_within_a_first_fit_and_forgotten_with_the_weights():
    X, y = data()
    one, other = (pd.DataFrame(X, columns=list(names)) for names in ("abcde", "edcba"))
    net = fastnn.Sequential([fastnn.Dense(3, "softmax")])
    for given, settings in (((one, y), dict(validation_data=(other, y))), (([(one, y), (other, y)],), {})):
        net = fastnn.Sequential([fastnn.Dense(3, "softmax")])
        with pytest.raises(ValueError, match="X must be .+; got 'e' in the place of 'a'"):
            net.fit(*given, epochs=1, **settings)
    net = fastnn.Sequential([fastnn.Dense(3, "softmax")])
    net.fit(one, y, epochs=1, validation_split=0.2)
    assert net.feature_names == tuple("abcde")
    assert net.build(5).feature_names is None
    net.fit(X, y, epochs=1)
    net.feature_names = list("edcba")
    net.predict(other)
    with pytest.raises(ValueError, match="^X must be"):
        net.predict(one)
    for names, error in ((["a"], ValueError), (list(range(5)), TypeError), ("abcde", TypeError)):
        with pytest.raises(error, match="^feature_names must be None or a sequence of 5 str; got "):
            net.feature_names = names


def test_an_error_names_the_column_of_a_table():
    for bad in (None, "red", pd.NA, pd.Timestamp("2020-01-01")):
        frame = pd.DataFrame(data()[0], columns=list("abcde")).astype(object)
        frame.iloc[7, 3] = bad
        with pytest.raises(TypeError, match=r"^X must be .+; got .+ \(\w+\) at row 7, column 'd'"):
            built().predict(frame)
    frame = pd.DataFrame(spoiled(X, np.nan), columns=list("abcde"))
    with pytest.raises(ValueError, match="^X must be finite; got nan at row 20, column 'c'"):
        fit(X=frame)


# bad input: (call, error, argument named, what the message shows of the value) -----------------------------


def fit(dtype="float64", **changes):
    """A fit that is right but for the changes."""
    arguments = dict(zip("Xy", data(), strict=True)) | dict(optimizer=fastnn.SGD(0.1), epochs=1) | changes
    X, y = arguments.pop("X"), arguments.pop("y")
    pair(dtype=dtype)[0].fit(X, y, **arguments)


def fit_loss(loss, y, **changes):
    """A fit of another loss with these targets."""
    output = {"binary_cross_entropy": "sigmoid", "mse": "linear"}[loss]
    k = 1 if np.ndim(y) == 1 else np.shape(y)[1]
    net, _, _ = pair((5, 4, k), ("tanh", output), loss)
    net.fit(data()[0], y, optimizer=fastnn.SGD(0.1), epochs=1, **changes)


def spoiled(array, value, dtype=None):
    """A copy of the array with one bad element."""
    array = np.array(array, dtype=dtype)
    array[tuple(n // 2 for n in array.shape)] = value
    return array


X, Y = data()
ONES = np.ones(len(Y))
ZEROS = np.zeros(len(Y))


def layers(last="softmax"):
    return [fastnn.Dense(4, "tanh"), fastnn.Dense(3, last)]


def built():
    return pair()[0]


class Negative(fastnn.Schedule):
    """A schedule of the user's own that gives what no rate can be."""

    def rates(self, epochs):
        return -np.ones(len(epochs))


NUMBERS = (("x", TypeError), (None, TypeError), (np.nan, ValueError), (-0.5, ValueError))
COUNTS = ((0, ValueError), (-2, ValueError), (2.5, TypeError), ("4", TypeError), (True, TypeError))


def not_numbers(make, name, skip=()):
    """One row for each value that is not a finite, non-negative number."""
    return [(lambda v=v: make(v), e, name, re.escape(repr(v))) for v, e in NUMBERS if v not in skip]


def not_counts(make, name):
    """One row for each value that is not a positive int."""
    return [(lambda v=v: make(v), e, name, re.escape(repr(v))) for v, e in COUNTS]


BAD = [
    # layers
    *not_counts(lambda v: fastnn.Dense(v), "units"),
    (lambda: fastnn.Dense(3, "rleu"), ValueError, "activation", r"'rleu' \(did you mean 'relu'\?\)"),
    (lambda: fastnn.Dense(3, 7), TypeError, "activation", "7"),
    (lambda: fastnn.Dense(3, "relu", alpha=0.1), ValueError, "alpha", "0.1"),
    (lambda: fastnn.Dense(3, "elu", alpha="x"), TypeError, "alpha", "'x'"),
    (lambda: fastnn.Dense(3, "elu", alpha=np.nan), ValueError, "alpha", "nan"),
    (lambda: fastnn.Dense(3, "leaky_relu", alpha=-0.5), ValueError, "alpha", "-0.5"),
    (lambda: fastnn.Dense(3, "elu", alpha=-0.5), ValueError, "alpha", "-0.5"),
    (lambda: fastnn.Dense(3, kernel_initializer="glorot"), ValueError, "kernel_initializer", "'glorot'"),
    (lambda: fastnn.Dense(3, kernel_initializer=3), TypeError, "kernel_initializer", "3"),
    (lambda: fastnn.Dense(3, bias_initializer="one"), ValueError, "bias_initializer", "'one'"),
    (lambda: fastnn.Dropout(1.0), ValueError, "rate", "1.0"),
    (lambda: fastnn.Dropout(-0.1), ValueError, "rate", "-0.1"),
    (lambda: fastnn.Dropout(np.nan), ValueError, "rate", "nan"),
    (lambda: fastnn.Dropout("half"), TypeError, "rate", "'half'"),
    (lambda: fastnn.Dropout(True), TypeError, "rate", "True"),
    # models
    (lambda: fastnn.Sequential([]), ValueError, "layers", r"\[\]"),
    (lambda: fastnn.Sequential([3]), TypeError, "layers", "3|int"),
    (lambda: fastnn.Sequential(5), TypeError, "layers", "5"),
    (lambda: fastnn.Sequential([fastnn.Dense(1, "softmax")]), ValueError, "units", "1"),
    (lambda: fastnn.Sequential(layers(), dtype="flaot"), ValueError, "dtype", "'flaot'"),
    (lambda: fastnn.Sequential(layers(), loss="logloss"), ValueError, "loss", "'logloss'"),
    (lambda: fastnn.Sequential(layers(), loss=3), TypeError, "loss", "3"),
    (lambda: fastnn.Sequential(layers("linear"), loss="cross_entropy"), ValueError, "loss", "cross_entropy"),
    (
        lambda: fastnn.Sequential(layers("linear"), loss="binary_cross_entropy"),
        ValueError,
        "loss",
        "binary_cross_entropy",
    ),
    (lambda: fastnn.Sequential(layers("softmax"), loss="mse"), ValueError, "loss", "mse"),
    (
        lambda: fastnn.Sequential([fastnn.Dense(3, "softmax"), fastnn.Dense(1)]),
        ValueError,
        "activation|layers",
        "softmax",
    ),
    (lambda: fastnn.Sequential(layers(), dtype="float16"), ValueError, "dtype", "float16"),
    (lambda: fastnn.Sequential(layers(), dtype="int32"), ValueError, "dtype", "int32"),
    (lambda: fastnn.Sequential(layers(), device="tpu"), ValueError, "device", "'tpu'"),
    (lambda: fastnn.Sequential(layers(), device="cuda", precision="fp8"), ValueError, "precision", "'fp8'"),
    (lambda: fastnn.Sequential(layers(), precision="tf32"), ValueError, "precision", "'tf32'"),
    (
        lambda: fastnn.logistic_net(device="cuda", dtype="float64", precision="bf16"),
        ValueError,
        "precision",
        "'bf16'",
    ),
    (lambda: fastnn.Sequential(layers(), seed=-1), ValueError, "seed", "-1"),
    (lambda: fastnn.Sequential(layers(), seed=1.5), TypeError, "seed", "1.5"),
    (lambda: fastnn.Sequential(layers(), seed="a"), TypeError, "seed", "'a'"),
    *not_numbers(lambda v: fastnn.Sequential(layers("linear"), loss="huber", huber_delta=v), "huber_delta"),
    (lambda: fastnn.Sequential(layers(), huber_delta=0.0), ValueError, "huber_delta", "0.0"),
    *not_numbers(lambda v: fastnn.Sequential(layers("linear"), loss="quantile", quantile=v), "quantile"),
    (lambda: fastnn.Sequential(layers(), quantile=1.0), ValueError, "quantile", "1.0"),
    (lambda: fastnn.Sequential([fastnn.Dense(3)], loss="gaussian"), ValueError, "units", "3"),
    (lambda: fastnn.Sequential([fastnn.Dense(1)], loss="poisson"), ValueError, "loss", "'poisson' with 'linear'"),
    *not_counts(lambda v: fastnn.Sequential(layers()).build(v), "n_features"),
    *not_counts(lambda v: fastnn.logistic_net(n_classes=v), "n_classes"),
    (lambda: fastnn.logistic_net(n_classes=1), ValueError, "n_classes", "1"),
    (lambda: built().set_weights([np.zeros((7, 5))]), ValueError, "weights", "1"),
    (lambda: built().set_weights(3), TypeError, "weights", "3|int"),
    (
        lambda: built().set_weights([np.zeros((5, 7)), *built().get_weights()[1:]]),
        ValueError,
        "weights",
        r"\(5, 7\)",
    ),
    (lambda: built().set_weights(["x", *built().get_weights()[1:]]), TypeError, "weights", "x|str|<U"),
    # X
    (lambda: fit(X=X[:, 0]), ValueError, "X", r"1-D|\(40,\)"),
    (lambda: fit(X=X[None]), ValueError, "X", r"3-D|\(1, 40, 5\)"),
    (lambda: fit(X=X[:, :4]), ValueError, "X", "4"),
    (lambda: fit(X=X[:0], y=Y[:0]), ValueError, "X", r"0|\(0, 5\)"),
    (lambda: fit(X=None), TypeError, "X", "None"),
    (lambda: fit(X=X.astype(str)), TypeError, "X", "str|<U"),
    (lambda: fit(X=X + 1j), TypeError, "X", "complex"),
    (lambda: fit(X=spoiled(X, "red", object)), TypeError, "X", "red|object"),
    (lambda: fit(X=[[1.0, 2.0], [3.0]]), (TypeError, ValueError), "X", "."),
    (lambda: fit(X=spoiled(X, np.nan)), ValueError, "X", "nan at row 20, column 2"),
    (lambda: fit(X=spoiled(X, np.inf)), ValueError, "X", "inf at row 20, column 2"),
    (lambda: fit(X=spoiled(X, -np.inf)), ValueError, "X", "-inf at row 20, column 2"),
    (lambda: fit("float32", X=spoiled(X, 1e300)), ValueError, "X", r"1e\+300 at row 20, column 2"),
    # y
    (lambda: fit(y=Y[:-1]), ValueError, "y", "39"),
    (lambda: fit(y=None), TypeError, "y", "None"),
    (lambda: fit(y=np.array(["cat", "dog"] * 20)), ValueError, "y", "2"),
    (lambda: fit(y=[["cat"]] * 40), TypeError, "y", "str|<U|cat"),
    (lambda: fit(y=spoiled(Y, 3)), ValueError, "y", "3"),
    (lambda: fit(y=spoiled(Y, -1)), ValueError, "y", "-1"),
    (lambda: fit(y=spoiled(Y, 0.5, float)), ValueError, "y", "0.5"),
    (lambda: fit(y=spoiled(Y, np.nan, float)), ValueError, "y", "(?i)nan"),
    (lambda: fit(y=np.eye(4)[Y]), ValueError, "y", "4"),
    (lambda: fit(y=spoiled(np.eye(3)[Y], -0.5)), ValueError, "y", "-0.5"),
    (lambda: fit(y=spoiled(np.eye(3)[Y], np.nan)), ValueError, "y", "nan at row 20, column 1"),
    (lambda: fit(y=0.9 * np.eye(3)[Y]), ValueError, "y", "sums to 0.9 at row 0"),
    (lambda: fit_loss("binary_cross_entropy", spoiled(ONES, 2.0)), ValueError, "y", "2"),
    (lambda: fit_loss("binary_cross_entropy", spoiled(ONES, -0.1)), ValueError, "y", "-0.1"),
    (lambda: fit_loss("binary_cross_entropy", spoiled(ONES, np.nan)), ValueError, "y", "(?i)nan"),
    (lambda: fit_loss("mse", spoiled(ONES, np.inf)), ValueError, "y", "(?i)inf"),
    (lambda: fit_loss("mse", ONES[:7]), ValueError, "y", "7"),
    # fit
    (lambda: fit(optimizer="Adam"), ValueError, "optimizer", "'Adam'"),
    (lambda: fit(optimizer=fastnn.Adam), TypeError, "optimizer", "<class 'fastnn.optimizers.Adam'>"),
    (lambda: fit(optimizer=fastnn.SGD), TypeError, "optimizer", "SGD"),
    (lambda: fit(epochs=-1), ValueError, "epochs", "-1"),
    (lambda: fit(epochs=2.5), TypeError, "epochs", "2.5"),
    (lambda: fit(epochs="3"), TypeError, "epochs", "'3'"),
    (lambda: fit(epochs=None), TypeError, "epochs", "None"),
    *not_counts(lambda v: fit(batch_size=v), "batch_size"),
    (lambda: fit(batch_size=41), ValueError, "batch_size", "41"),
    (lambda: fit(batch_size="all"), TypeError, "batch_size", "'all'"),
    (lambda: fit(shuffle="yes"), TypeError, "shuffle", "'yes'"),
    (lambda: fit(progress="yes"), TypeError, "progress", "'yes'"),
    (lambda: fit(sample_weight=ONES[:-1]), ValueError, "sample_weight", "39"),
    (lambda: fit(sample_weight=X), ValueError, "sample_weight", r"2-D|\(40, 5\)"),
    (lambda: fit(sample_weight=spoiled(ONES, -1.0)), ValueError, "sample_weight", "-1"),
    (lambda: fit(sample_weight=spoiled(ONES, np.nan)), ValueError, "sample_weight", "nan at row 20"),
    (lambda: fit(sample_weight=spoiled(ONES, np.inf)), ValueError, "sample_weight", "inf at row 20"),
    (lambda: fit(sample_weight=ZEROS), ValueError, "sample_weight", "0|zero"),
    (lambda: fit(sample_weight=["a"] * 40), TypeError, "sample_weight", "str|<U|a"),
    (lambda: fit(class_weight="even"), ValueError, "class_weight", "'even'"),
    (lambda: fit(class_weight=[1.0, 2.0, 3.0]), TypeError, "class_weight", r"\[1.0, 2.0, 3.0\]|list"),
    (lambda: fit(class_weight={0: 1.0, 1: -2.0, 2: 1.0}), ValueError, "class_weight", "-2.0"),
    (lambda: fit(class_weight={0: 1.0, 1: "a", 2: 1.0}), TypeError, "class_weight", "'a'"),
    (lambda: fit(class_weight={0: 1.0, 7: 2.0}), ValueError, "class_weight", "7"),
    (lambda: fit_loss("mse", 0.3 * ONES, class_weight="balanced"), ValueError, "class_weight", "balanced"),
    *not_numbers(lambda v: fit(l2=v), "l2"),
    (lambda: fit(validation_data=X), (TypeError, ValueError), "validation_data", "."),
    (lambda: fit(validation_data=(X,)), (TypeError, ValueError), "validation_data", "1"),
    (lambda: fit(validation_data=(X, Y, ONES, ONES)), (TypeError, ValueError), "validation_data", "4"),
    (lambda: fit(validation_data=(X, Y[:-1])), ValueError, "validation_data|y", "39"),
    (lambda: fit(validation_data=(X[:, :4], Y)), ValueError, "validation_data|X", "4"),
    (lambda: fit(callbacks=3), TypeError, "callbacks", "3"),
    (lambda: fit(callbacks=[3]), TypeError, "callbacks", "3"),
    *not_counts(lambda v: fit(threads=v), "threads"),
    # the other methods
    (lambda: built().predict(X[:, :3]), ValueError, "X", "3"),
    (lambda: built().predict(X, threads=0), ValueError, "threads", "0"),
    (lambda: built().predict(X[:1], threads=0), ValueError, "threads", "0"),
    (lambda: built().predict(X[0]), ValueError, "X", r"1-D|\(5,\)"),
    (lambda: built().predict("x"), (TypeError, ValueError), "X", "'x'|str|<U|0-D"),
    (lambda: built().evaluate(X, Y[:7]), ValueError, "y", "7"),
    (lambda: built().evaluate(X, Y, sample_weight=ONES[:7]), ValueError, "sample_weight", "7"),
    (lambda: built().loss_and_gradient(X, Y[:7]), ValueError, "y", "7"),
    (lambda: built().input_gradient(X, spoiled(Y, 5)), ValueError, "y", "5"),
    # optimizers
    *[
        row
        for make in (fastnn.SGD, fastnn.RMSprop, fastnn.Adagrad, fastnn.Adam, fastnn.AdamW)
        for name in ("learning_rate", "weight_decay")
        for row in not_numbers(lambda v, make=make, name=name: make(**{name: v}), name)
    ],
    (lambda: fastnn.SGD(np.inf), ValueError, "learning_rate", "inf"),
    (lambda: fit(optimizer=fastnn.SGD(Negative())), ValueError, "learning_rate", "-1"),
    *not_numbers(lambda v: fastnn.SGD(0.1, momentum=v), "momentum"),
    (lambda: fastnn.SGD(0.1, momentum=0.9, nesterov="yes"), TypeError, "nesterov", "'yes'"),
    (lambda: fastnn.SGD(0.1, nesterov=True), ValueError, "nesterov|momentum", "."),
    *not_numbers(lambda v: fastnn.RMSprop(rho=v), "rho"),
    *not_numbers(lambda v: fastnn.RMSprop(eps=v), "eps"),
    *not_numbers(lambda v: fastnn.RMSprop(momentum=v), "momentum"),
    *not_numbers(lambda v: fastnn.Adagrad(rate_decay=v), "rate_decay"),
    *not_numbers(lambda v: fastnn.Adagrad(eps=v), "eps"),
    *[
        row
        for make in (fastnn.Adam, fastnn.AdamW)
        for name in ("beta1", "beta2", "eps")
        for row in not_numbers(lambda v, make=make, name=name: make(**{name: v}), name)
    ],
    (lambda: fastnn.Adam(beta1=1.0), ValueError, "beta1", "1.0"),
    (lambda: fastnn.AdamW(beta2=1.5), ValueError, "beta2", "1.5"),
    # schedules
    *not_numbers(lambda v: fastnn.Constant(v), "rate"),
    *not_numbers(lambda v: fastnn.StepDecay(v, 2, 0.5), "rate"),
    *not_counts(lambda v: fastnn.StepDecay(0.1, v, 0.5), "every"),
    *not_numbers(lambda v: fastnn.StepDecay(0.1, 2, v), "factor"),
    *not_numbers(lambda v: fastnn.CosineDecay(v, 10), "rate"),
    *not_counts(lambda v: fastnn.CosineDecay(0.1, v), "epochs"),
    *not_numbers(lambda v: fastnn.CosineDecay(0.1, 10, floor=v), "floor"),
    *not_numbers(lambda v: fastnn.InverseTimeDecay(v, 0.1), "rate"),
    *not_numbers(lambda v: fastnn.InverseTimeDecay(0.1, v), "decay"),
    # threads
    *not_counts(lambda v: fastnn.set_num_threads(v), "n|threads"),
]


@pytest.mark.parametrize(
    "call, error, argument, value", BAD, ids=[f"{i}-{row[2]}-{row[3]}" for i, row in enumerate(BAD)]
)
def test_bad_input_names_the_argument_and_the_value(call, error, argument, value):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    # `argument must be what is accepted; got value`
    pattern = rf"(?s)\b(?:{argument})\b.* must .+; got .*(?:{value})".replace("(?i)", "")
    flags = re.IGNORECASE if "(?i)" in value else 0
    assert re.search(pattern, message, flags), message


def test_a_refused_fit_leaves_the_net_as_it_was():
    net, _, weights = pair()
    for bad in (dict(y=spoiled(Y, 3)), dict(X=spoiled(X, np.nan)), dict(epochs=-1), dict(l2=-1.0)):
        arguments = dict(X=X, y=Y, optimizer=fastnn.SGD(0.1), epochs=1) | bad
        with pytest.raises(ValueError, match="must"):
            net.fit(**arguments)
        assert np.array_equal(flat(net.get_weights()), flat(weights))


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_data_of_one_class_are_learned(class_weight):
    net = built()
    net.fit(X, 0 * Y + 2, optimizer=fastnn.SGD(1.0), epochs=30, class_weight=class_weight)
    assert net.evaluate(X, 0 * Y + 2)["accuracy"] == 1.0


def test_a_bar_without_tqdm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"pip install 'fastnn-numba\[progress\]'"):
        fit(progress=True)


def test_a_sparse_matrix_is_refused_by_name():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"X must .+; got .*(csr|sparse)"):
        fit(X=sparse.csr_matrix(X))


@pytest.mark.parametrize("rows", [8, 100])
def test_class_indices_that_change_while_they_are_looked_at(rows, monkeypatch):
    """What is looked at is what compiled code gets, whose memory a wrong index would leave."""
    y, look = np.zeros(rows, np.int64), validation._range

    def changed(array):
        y[0] = 99
        return look(array)

    monkeypatch.setattr(validation, "_range", changed)
    loss = backends.loss("cross_entropy")
    array, labels = validation.targets("y", y, np.dtype("float32"), rows, loss, 3)
    assert labels and y[0] == 99 and array.max() == 0.0
