"""standardize=True: the same net as on data that were standardised before, asked with the data as they are."""

import copy
import pickle

import numpy as np
import pytest
from nets import data, flat
from numba import njit
from tolerance import assert_close

import fastnn
from fastnn import backends, plans, standardization
from fastnn.data import Data

LAYERS = {
    "few features": (5, lambda: [fastnn.Dense(7, "tanh"), fastnn.Dense(2)]),
    "by rows": (600, lambda: [fastnn.Dense(20, "tanh"), fastnn.Dense(2)]),
    "pieces": (300, lambda: [fastnn.Dense(120, "tanh"), fastnn.Dense(9, "relu"), fastnn.Dense(2)]),
    "dropout": (20, lambda: [fastnn.Dropout(0.2), fastnn.Dense(33, "tanh"), fastnn.Dropout(0.5), fastnn.Dense(2)]),
}


def raw(m, n, dtype, loss="mse"):
    """Features of many sizes, three deviations from zero, and targets farther."""
    X, y = data(m, n, 2, loss, dtype)
    scale = np.geomspace(1e-3, 1e3, n)
    X = ((X + 3) * scale).astype(dtype)
    return X, y if loss != "mse" else (20 + [5.0, 50.0] * y).astype(dtype)


def standard(values):
    mean, std = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    return (values - mean) / std


@pytest.mark.parametrize("batch_size, shuffle", [(None, True), (64, False), (64, True)])
@pytest.mark.parametrize("name", LAYERS)
def test_training_and_prediction(name, batch_size, shuffle, dtype):
    n, layers = LAYERS[name]
    X, y = raw(150, n, dtype)
    ours = fastnn.Sequential(layers(), dtype=dtype, seed=5, standardize=True)
    theirs = fastnn.Sequential(layers(), dtype=dtype, seed=5)
    options = dict(epochs=4, batch_size=batch_size, shuffle=shuffle, threads=2)
    options["validation_data"] = held = X[:40], y[:40]
    history = ours.fit(X, y, optimizer=fastnn.SGD(0.02), **options)
    Z, t = standard(X), standard(y)
    options["validation_data"] = Z[:40], t[:40]
    expected = theirs.fit(Z, t, optimizer=fastnn.SGD(0.02), **options)
    # the inputs of the two are rounded apart, so sums are compared and not bits
    assert_close(history.loss, expected.loss, "training", dtype)
    assert_close(history.validation_loss, expected.validation_loss, "training", dtype)
    assert_close(flat(ours.get_weights()), flat(theirs.get_weights()), "training", dtype)
    outputs = theirs.predict(Z) * y.std(axis=0, dtype=np.float64) + y.mean(axis=0, dtype=np.float64)
    for rows in (1, 150):
        assert_close(
            standard_outputs(ours.predict(X[:rows]), y), standard_outputs(outputs[:rows], y), "training", dtype
        )
    frozen = fastnn.apply(ours.freeze(), X)
    assert_close(standard_outputs(frozen, y), standard_outputs(outputs, y), "training", dtype)
    assert ours.evaluate(*held)["loss"] == pytest.approx(theirs.evaluate(Z[:40], t[:40])["loss"], rel=1e-3)
    assert ours.evaluate(*held)["r2"] == pytest.approx(theirs.evaluate(Z[:40], t[:40])["r2"], rel=1e-3)


def standard_outputs(outputs, y):
    return (outputs - y.mean(axis=0, dtype=np.float64)) / y.std(axis=0, dtype=np.float64)


def test_the_shapes_take_every_path():
    ways = set()
    for n, layers in LAYERS.values():
        net = fastnn.Sequential(layers(), standardize=True).build(n)
        plan = plans.make(net, backends.GRADIENT, 64, 1)
        ways.add((plan["BY_PARTS"], plan["BY_ROWS"]))
    assert ways == {(0, 0), (0, 1), (1, 0)}


def test_targets_of_a_classifier_and_of_bounded_outputs_stay_as_they_are(dtype):
    X, y = raw(100, 5, dtype, "cross_entropy")
    net = fastnn.logistic_net(2, dtype=dtype, standardize=True)
    net.fit(X, y > 0, epochs=5)
    twin = fastnn.logistic_net(2, dtype=dtype)
    twin.fit(standard(X), y > 0, epochs=5)
    assert_close(net.predict(X), twin.predict(standard(X)), "training", dtype)
    net = fastnn.Sequential([fastnn.Dense(2, "softplus")], loss="mse", dtype=dtype, standardize=True)
    net.fit(*raw(100, 5, dtype), epochs=1)
    assert net.standardization.target_mean.tolist() == [0, 0] and net.standardization.target_std.tolist() == [1, 1]
    assert (net.predict(X) >= 0).all()


def test_gradients_are_those_of_the_standardised_data(dtype):
    X, y = raw(80, 5, dtype)
    ours = fastnn.Sequential(LAYERS["few features"][1](), dtype=dtype, standardize=True)
    ours.fit(X, y, epochs=1)
    theirs = fastnn.Sequential(LAYERS["few features"][1](), dtype=dtype).build(5)
    theirs.set_weights(ours.get_weights())
    Z, t = standard(X), standard(y)
    value, gradient = ours.loss_and_gradient(X, y)
    assert_close(value, theirs.loss_and_gradient(Z, t)[0], "training", dtype)
    assert_close(gradient, theirs.loss_and_gradient(Z, t)[1], "training", dtype)
    std = X.std(axis=0, dtype=np.float64)
    assert_close(ours.input_gradient(X, y) * std, theirs.input_gradient(Z, t), "training", dtype)


def test_the_same_bits_on_any_number_of_threads(dtype):
    X, y = raw(900, 20, dtype)
    results = []
    for threads in (1, 2, 5):
        net = fastnn.Sequential(LAYERS["dropout"][1](), dtype=dtype, standardize=True)
        net.fit(X, y, epochs=3, batch_size=450, threads=threads)
        results.append(flat(net.get_weights()))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_learned_once_kept_and_forgotten_with_the_weights():
    X, y = raw(80, 5, "float64")
    net = fastnn.Sequential(LAYERS["few features"][1](), dtype="float64", standardize=True)
    assert net.standardization is None
    net.build(5)
    before = net.predict(X)  # of starting weights, for data as they are
    net.fit(X, y, epochs=1)
    learned = net.standardization
    net.fit(X * 2, y, epochs=1)
    assert net.standardization is learned
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(other.predict(X), net.predict(X))
    net.build(5)
    assert net.standardization is None and np.array_equal(net.predict(X), before)


def test_it_can_be_assigned_and_is_checked():
    X, y = raw(80, 5, "float64")
    learned, other = (
        fastnn.Sequential(LAYERS["few features"][1](), dtype="float64", standardize=True).build(5) for _ in range(2)
    )
    learned.fit(X, y, epochs=1)
    found = learned.standardization
    other.standardization = found
    other.parameters = learned.parameters
    assert np.array_equal(other.predict(X), learned.predict(X))
    assert np.array_equal(other.loss_and_gradient(X, y)[1], learned.loss_and_gradient(X, y)[1])
    with pytest.raises(ValueError, match="read-only"):
        other.standardization.mean[0] = 1.0
    for wrong, error, given in (
        (None, TypeError, "standardization must be a fastnn.Standardization; got None"),
        (found._replace(std=found.std * 0), ValueError, "standardization.std must be positive numbers; got"),
        (
            found._replace(mean=found.mean[1:]),
            ValueError,
            r"standardization.mean must be an array of shape \(5,\); got",
        ),
    ):
        with pytest.raises(error, match=given):
            other.standardization = wrong
    assert other.standardization is not None and np.array_equal(other.predict(X), learned.predict(X))
    with pytest.raises(ValueError, match="standardization must be left alone in a net with standardize=False"):
        fastnn.Sequential([fastnn.Dense(1)]).build(5).standardization = found


def learn(X, weights=None, rows=None):
    return standardization.learn(Data(X, np.zeros(len(X)), False, weights, rows), 1, False)


def test_moments_are_those_of_numpy_and_stable():
    rng = np.random.default_rng(0)
    for X in (
        rng.normal(size=(70_000, 3)) + [0.0, 1e6, -1e9],
        rng.normal(size=(5, 70_000)),
        1e8 + rng.normal(size=(30_001, 9)).cumsum(axis=0),
    ):
        learned = learn(X)
        assert_close(learned.mean, X.mean(axis=0), "sum")
        np.testing.assert_allclose(learned.std, (X - X[0]).std(axis=0), rtol=1e-12)
    # the textbook's E[x^2] - E[x]^2 would be off by more than the variance here
    X = np.array([[1e9], [1e9 + 1], [1e9 + 2]])
    assert learn(X).std == pytest.approx(np.sqrt(2 / 3))


def test_a_constant_feature_or_target_is_only_shifted():
    X = np.column_stack([np.full(50, 0.1), np.arange(50.0)])
    net = fastnn.Sequential([fastnn.Dense(1)], dtype="float64", standardize=True)
    net.fit(X, np.full(50, 7.0), epochs=200, optimizer=fastnn.SGD(0.1), batch_size=None)
    assert net.standardization.std[0] == 1 and net.standardization.target_std.tolist() == [1]
    assert_close(net.predict(X), np.full((50, 1), 7.0), "training")


def test_bad_data_leave_the_net_as_it_was():
    net = fastnn.Sequential([fastnn.Dense(1)], standardize=True)
    with pytest.raises(ValueError, match="X must be finite"):
        net.fit([[1.0], [np.nan]], [1, 2])
    assert net.standardization is None and net.parameters is None
    with pytest.raises(TypeError, match="standardize must be a bool; got 'yes'"):
        fastnn.Sequential([fastnn.Dense(1)], standardize="yes")


def test_saved_and_loaded(tmp_path, dtype):
    X, y = raw(80, 5, dtype)
    net = fastnn.Sequential(LAYERS["few features"][1](), dtype=dtype, standardize=True).build(5)
    net.save(tmp_path / "untrained")
    assert fastnn.load(tmp_path / "untrained").standardization is None
    net.fit(X, y, epochs=2)
    net.save(tmp_path / "trained")
    other = fastnn.load(tmp_path / "trained")
    assert other.standardize and all(map(np.array_equal, other.standardization, net.standardization))
    assert np.array_equal(other.predict(X), net.predict(X))
    regression = fastnn.logistic_net(2, dtype=dtype, standardize=True)
    regression.fit(X, y[:, 0] > 20, epochs=2)
    regression.save(tmp_path / "regression")
    assert np.array_equal(fastnn.load(tmp_path / "regression").predict(X), regression.predict(X))


def test_resumed(tmp_path, dtype):
    X, y = raw(80, 20, dtype)
    path, results = tmp_path / "fit", []
    for epochs in ((6,), (2, 6)):
        for last in epochs:
            net = fastnn.Sequential(LAYERS["dropout"][1](), dtype=dtype, standardize=True)
            options = {} if len(epochs) == 1 else dict(callbacks=[fastnn.Checkpoint(path)], resume=path)
            net.fit(X, y, epochs=last, batch_size=32, **options)
        results.append((net.parameters, *net.standardization))
    assert all(map(np.array_equal, *results))


def test_batches_and_steps_learn_from_the_first_one(dtype):
    X, y = raw(80, 5, dtype)
    cut = [(X[:50], y[:50]), (X[50:], y[50:])]
    nets = [fastnn.Sequential(LAYERS["few features"][1](), dtype=dtype, standardize=True) for _ in range(2)]
    nets[0].fit(cut, epochs=1, optimizer=fastnn.SGD(0.1))
    for rows in cut:
        nets[1].partial_fit(*rows, fastnn.SGD(0.1))
    learned = standardization.learn(Data(X[:50], y[:50], False), 2, True)
    for net in nets:
        assert all(map(np.array_equal, net.standardization, learned))
    assert np.array_equal(nets[0].parameters, nets[1].parameters)


def offset_table(m, dtype):
    """Order numbers, a constant date, days, latitudes, and targets far from zero: float32 folded W mean into b."""
    rng = np.random.default_rng(0)
    order, day = 1_000_000 + rng.integers(-1, 2, m), 2_460_000 + rng.integers(0, 400, m)
    X = np.column_stack([order, np.full(m, 20240117), day, 48.1 + 1e-4 * rng.normal(size=m), rng.normal(size=m)])
    y = 3e4 + np.column_stack([order - 1e6, (day - 2_460_200) / 100]) @ [1.0, 2.0]
    return X.astype(dtype), y.astype(dtype)


def twin_outputs(net, X):
    """The trained net in float64."""
    learned, (W1, b1, W2, b2) = net.standardization, (array.astype(np.float64) for array in net.get_weights())
    Z = (X.astype(np.float64) - learned.mean) / learned.std
    return (np.tanh(Z @ W1.T + b1) @ W2.T + b2) * learned.target_std + learned.target_mean


def test_predictions_are_those_of_the_net_that_was_trained_by_every_way_of_asking(tmp_path, dtype):
    X, y = offset_table(300, dtype)
    net = fastnn.Sequential([fastnn.Dense(16, "tanh"), fastnn.Dense(1)], dtype=dtype, standardize=True)
    net.fit(X, y, epochs=300, batch_size=50, optimizer=fastnn.Adam(0.01))
    assert net.evaluate(X, y)["r2"] > 0.98
    net.save(tmp_path / "net")
    frozen = net.freeze()
    compiled = np.empty((300, 1), dtype)
    run_compiled(frozen, X, compiled)
    ways = {
        "many rows": net.predict(X),
        "few rows": np.concatenate([net.predict(X[i : i + 7]) for i in range(0, 300, 7)]),
        "strided rows": net.predict(np.repeat(X, 2, axis=1)[:, ::2][:9]),
        "two threads": net.predict(X, threads=2),
        "apply": fastnn.apply(frozen, X),
        "compiled": compiled,
        "frozen and pickled": fastnn.apply(pickle.loads(pickle.dumps(frozen)), X),
        "loaded": fastnn.load(tmp_path / "net").predict(X),
        "pickled": pickle.loads(pickle.dumps(net)).predict(X),
        "ONNX": in_onnx(net, tmp_path / "net.onnx", X),
    }
    expected = twin_outputs(net, X)
    for way, outputs in ways.items():
        # to the last digits of numbers near 30,000
        np.testing.assert_allclose(outputs, expected[: len(outputs)], rtol=8 * np.finfo(dtype).eps, err_msg=way)
    assert np.array_equal(ways["many rows"], ways["two threads"])


def in_onnx(net, path, X):
    from onnx.reference import ReferenceEvaluator

    net.to_onnx(path)
    return ReferenceEvaluator(str(path)).run(None, {"X": X})[0]


@njit
def run_compiled(net, X, out):
    for i in range(len(X)):
        fastnn.apply(net, X[i], out[i])


SECONDS = 1_700_000_000 + np.arange(60.0)


@pytest.mark.parametrize(
    "X, y, given",
    [
        (SECONDS, SECONDS - SECONDS[0], r"X must be numbers .* near 1.7e\+09 with a deviation of 17.3"),
        (np.arange(60) + 2**60, SECONDS - SECONDS[0], "X must be numbers .*a column 0 of numbers near 1.15292e"),
        (
            1e-40 * np.arange(60),
            SECONDS - SECONDS[0],
            "X must be numbers .* near 2.95e-39 with a deviation of 1.73e-39",
        ),
        (np.arange(60.0), 2e9 + np.linspace(-100, 100, 60), r"y must be numbers .* near 2e\+09 with a deviation of 58"),
    ],
)
def test_differences_that_the_dtype_does_not_hold_are_refused(X, y, given):
    net = fastnn.Sequential([fastnn.Dense(1)], standardize=True)
    X = X[:, np.newaxis]
    calls = lambda: net.fit(X, y), lambda: net.partial_fit(X, y), lambda: net.fit([(X, y)])  # noqa: E731
    for call in calls:
        with pytest.raises(ValueError, match=given):
            call()
        assert net.parameters is None and net.standardization is None
    if X.dtype == np.float64:
        wide = fastnn.Sequential([fastnn.Dense(1)], dtype="float64", standardize=True)
        wide.fit(X, y, epochs=300, optimizer=fastnn.SGD(0.3), batch_size=None)
        assert wide.evaluate(X, y)["r2"] > 0.999


def test_one_row_teaches_no_standardisation(dtype):
    net = fastnn.Sequential([fastnn.Dense(1)], dtype=dtype, standardize=True)
    for call in (lambda: net.partial_fit([[3.0, 4.0]], [1.0]), lambda: net.fit([([[3.0, 4.0]], [1.0])], epochs=1)):
        with pytest.raises(ValueError, match="X must be two rows or more to learn a standardisation from; got 1 of"):
            call()
    assert net.parameters is None


@pytest.mark.parametrize("chosen", [False, True])
def test_a_row_counts_as_often_as_its_weight_says(chosen, dtype):
    X, y = raw(90, 5, dtype)
    times = np.random.default_rng(1).integers(0, 4, 90)
    X[times == 0], y[times == 0] = 1e9, -1e9  # rows that do not count
    rows = np.random.default_rng(2).permutation(90)[:60] if chosen else np.arange(90)
    repeated = np.repeat(rows, times[rows])
    nets = [fastnn.Sequential(LAYERS["few features"][1](), dtype=dtype, standardize=True) for _ in range(2)]
    nets[0].fit(X, y, fastnn.SGD(0.1), epochs=3, sample_weight=times, rows=rows if chosen else None, batch_size=None)
    nets[1].fit(X[repeated], y[repeated], fastnn.SGD(0.1), epochs=3, batch_size=None)
    for ours, right in zip(nets[0].standardization, nets[1].standardization, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-6 if dtype == "float32" else 1e-12)
    assert_close(nets[0].parameters, nets[1].parameters, "training", dtype)
