"""Sequential and logistic_net as a user meets them: weights, prediction, copies, failures, Ctrl-C."""

import copy
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import reference
from arrays import normal
from nets import data, flat, pair
from tolerance import assert_close

import fastnn


def test_weights_round_trip(dtype):
    net, _, weights = pair(dtype=dtype)
    found = net.get_weights()
    assert [w.shape for w in found] == [(7, 5), (7,), (6, 7), (6,), (3, 6), (3,)]
    assert all(w.dtype == dtype for w in found)
    assert np.array_equal(flat(found), flat(weights))


def test_weights_are_copies_both_ways():
    net, _, _ = pair()
    X, _ = data()
    before = net.predict(X)
    given = net.get_weights()
    net.set_weights(given)
    for w in given:
        w[...] = 0.0
    for w in net.get_weights():
        w[...] = 0.0
    assert np.array_equal(net.predict(X), before)


def test_parameters_are_one_flat_vector():
    net, _, weights = pair()
    assert net.parameters.ndim == 1
    assert len(net.parameter_slices) == 3
    for (w_part, b_part), W, b in zip(net.parameter_slices, weights[0::2], weights[1::2], strict=True):
        assert np.array_equal(net.parameters[w_part], W.ravel())
        assert np.array_equal(net.parameters[b_part], b)


def test_parameters_are_a_live_view_and_can_be_assigned(dtype):
    net, other = pair(dtype=dtype)[0], fastnn.Sequential([fastnn.Dense(1)])
    X, y = data(dtype=dtype)
    net.fit(X, y, epochs=2)
    view, moments = net.parameters, net.state.moments
    net.parameters = net.parameters.astype("float64") / 2
    assert net.parameters is view and view.dtype == dtype
    net.parameters += 1
    net.parameters = view.tolist()
    assert net.parameters is view and net.state.moments is moments
    assert np.array_equal(net.get_weights()[1], view[net.parameter_slices[0][1]])
    before = view.copy()
    for wrong, error, given in (
        (view[1:], ValueError, "shape"),
        (np.full_like(view, np.nan), ValueError, "nan at row 0"),
        (np.where(before > -9, 1e300, 0) if dtype == "float32" else view[:0], ValueError, "1e\\+300|shape"),
        ("many", TypeError, "many"),
    ):
        with pytest.raises(error, match=f"^parameters must be .+ got .*{given}"):
            net.parameters = wrong
        assert np.array_equal(net.parameters, before)
    assert other.parameters is None
    with pytest.raises(fastnn.NotBuiltError):
        other.parameters = [1.0]


@pytest.mark.parametrize(
    "name", ["loss", "dtype", "seed", "huber_delta", "quantile", "standardize", "precision", "layers"]
)
def test_what_a_net_is_cannot_be_changed(name):
    net, _, _ = pair()
    before = getattr(net, name)
    with pytest.raises(AttributeError):
        setattr(net, name, before)
    net.layers.append(fastnn.Dense(2))
    assert len(net.layers) == 3
    with pytest.raises(AttributeError, match="units of a layer cannot be changed: make a new Dense"):
        net.layers[0].units = 9
    with pytest.raises(AttributeError, match="rate of a layer cannot be changed: make a new Dropout"):
        fastnn.Dropout(0.5).rate = 0.1


def test_the_device_may_be_changed_and_is_checked():
    net, _, _ = pair(dtype="float32")
    X, y = data(dtype="float32")
    before = net.loss_and_gradient(X, y)
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda' or 'auto'; got 'tpu'"):
        net.device = "tpu"
    net.device = "auto"
    assert net.device == "auto" and np.array_equal(net.loss_and_gradient(X, y)[1], before[1])
    fast = fastnn.Sequential(net.layers, device="cuda", precision="tf32")
    with pytest.raises(ValueError, match="precision must be 'float32' .*with device='cpu'.*; got 'tf32'"):
        fast.device = "cpu"
    assert fast.device == "cuda"


def test_a_mark_stands_for_the_weights(tmp_path):
    """A plan on a GPU uploads them only where it is another; where there is none they are compared, or uploaded."""
    (net, *_), (X, y), marks = pair(), data(), []
    net.save(tmp_path / "net.safetensors")
    reads = {
        "predict": lambda: net.predict(X),
        "evaluate": lambda: net.evaluate(X, y),
        "loss_and_gradient": lambda: net.loss_and_gradient(X, y),
        "get_weights": net.get_weights,
        "summary": net.summary,
        "save": lambda: net.save(tmp_path / "net.safetensors"),
        "objective": lambda: net.objective(X, y),
        "freeze": net.freeze,
        "copy": lambda: copy.deepcopy(net).partial_fit(X, y),
        "pickle": lambda: pickle.loads(pickle.dumps(net)).partial_fit(X, y),
    }
    writes = {
        "fit": lambda: net.fit(X, y, epochs=1),
        "early stopping": lambda: net.fit(X, y, epochs=3, callbacks=[fastnn.EarlyStopping(1)]),
        "stream": lambda: net.fit([(X, y)], epochs=1),
        "partial_fit": lambda: net.partial_fit(X, y),
        "apply_gradient": lambda: net.apply_gradient(net.loss_and_gradient(X, y)[1]),
        "minimize": lambda: net.minimize(X, y, max_iter=2),
        "set_weights": lambda: net.set_weights(net.get_weights()),
        "parameters": lambda: setattr(net, "parameters", net.state.parameters.copy()),
        "checkpoint": lambda: net.fit(X, y, epochs=2, resume=tmp_path / "run"),
    }
    twin = fastnn.Sequential(net.layers, net.loss, net.dtype, seed=net.seed)
    twin.fit(X, y, epochs=1, callbacks=[fastnn.Checkpoint(tmp_path / "run")])
    for name, write in writes.items():
        before = net.weights_mark
        for what, read in reads.items():
            read()
            assert net.weights_mark is before is not None, what
        marks.append(before)
        write()
        assert net.weights_mark not in [None, *marks], name

    class Looks(fastnn.Callback):
        def chunk(self, run):
            marks.append(run.net.weights_mark)

    buffers: list[pickle.PickleBuffer] = []
    shared = pickle.loads(pickle.dumps(net, 5, buffer_callback=buffers.append), buffers=buffers)
    assert shared.weights_mark is None
    shared.partial_fit(X, y)
    assert shared.weights_mark is not None
    net.fit(X, y, epochs=1, callbacks=[Looks()])
    assert marks[-1] is None and net.weights_mark is not None
    assert net.arrays and net.weights_mark is None
    net.partial_fit(X, y)
    assert net.weights_mark is None


def test_fit_builds_an_unbuilt_net():
    X, y = data()
    results = []
    for build in (False, True):
        net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(3, "softmax")], seed=1)
        if build:
            net.build(5)
        net.fit(X, y, epochs=2)
        results.append(flat(net.get_weights()))
    assert np.array_equal(*results)


@pytest.mark.parametrize(
    "method", ["predict", "predict_labels", "evaluate", "get_weights", "loss_and_gradient", "input_gradient"]
)
def test_an_unbuilt_net_says_so(method):
    net = fastnn.Sequential([fastnn.Dense(3, "softmax")])
    X, y = data()
    arguments = {"get_weights": (), "predict": (X,), "predict_labels": (X,)}.get(method, (X, y))
    assert issubclass(fastnn.NotBuiltError, RuntimeError) and issubclass(fastnn.BusyError, RuntimeError)
    with pytest.raises(fastnn.NotBuiltError, match="build|fit"):
        getattr(net, method)(*arguments)


@pytest.mark.parametrize(
    "last, loss",
    [("sigmoid", "binary_cross_entropy"), ("softmax", "cross_entropy"), ("linear", "mse"), ("tanh", "mse")],
)
def test_the_loss_follows_from_the_output(last, loss):
    net = fastnn.Sequential([fastnn.Dense(2, last)], dtype="float64")
    net.build(5)
    X, y = data(k=2, loss=loss)
    _, twin, _ = pair((5, 2), (last,), loss)
    assert net.loss_and_gradient(X, y)[0] == pytest.approx(twin.objective(net.get_weights(), X, y), rel=1e-12)


def test_summary_shows_layers_and_counts():
    net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1, "sigmoid")])
    net.build(2)
    text = net.summary()
    assert isinstance(text, str)
    for part in ("tanh", "sigmoid", "12", "5", "17"):
        assert re.search(rf"\b{part}\b", text), text


def test_summary_of_an_unbuilt_net():
    assert "tanh" in fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1)]).summary()


def test_repr_names_the_class():
    assert "Sequential" in repr(pair()[0])


def deep_copy(net):
    return copy.deepcopy(net)


def pickled(net):
    return pickle.loads(pickle.dumps(net))


@pytest.mark.parametrize("duplicate", [deep_copy, pickled])
def test_a_copy_predicts_and_trains_on_as_the_original(duplicate):
    net, _, _ = pair()
    X, y = data()
    settings = dict(optimizer=fastnn.Adam(0.02), epochs=3, batch_size=8)
    net.fit(X, y, **settings)
    twin = duplicate(net)
    before = net.predict(X)
    assert np.array_equal(twin.predict(X), before)
    twin.fit(X, y, **settings)
    assert np.array_equal(net.predict(X), before)
    net.fit(X, y, **settings)
    assert np.array_equal(flat(twin.get_weights()), flat(net.get_weights()))
    assert not np.array_equal(net.predict(X), before)


@pytest.mark.parametrize("duplicate", [deep_copy, pickled])
def test_a_copy_of_an_unbuilt_net(duplicate):
    X, y = data()
    net = fastnn.Sequential([fastnn.Dense(4, "elu", alpha=0.5), fastnn.Dense(3, "softmax")], seed=2)
    twin = duplicate(net)
    for each in (net, twin):
        each.fit(X, y, epochs=2)
    assert np.array_equal(flat(twin.get_weights()), flat(net.get_weights()))


@pytest.mark.parametrize("m", [1, 2, 15, 16, 17, 63, 64, 65, 1000, 4097])
@pytest.mark.parametrize("activations", [("relu", "tanh", "softmax"), ("gelu", "silu", "linear")])
def test_predict(m, activations, dtype):
    loss = "cross_entropy" if activations[-1] == "softmax" else "mse"
    net, twin, weights = pair((9, 33, 17, 5), activations, loss, dtype=dtype)
    X = normal(1, m, 9, dtype=dtype)
    found = net.predict(X)
    assert found.shape == (m, 5)
    assert found.dtype == dtype
    assert_close(found, twin.predict(weights, X), "sum")


def test_predict_takes_strided_rows(dtype):
    net, twin, weights = pair(dtype=dtype)
    X = normal(2, 90, 15, dtype=dtype)
    for view in (X[::-2, ::3], X[:, ::-3], X.T[:5, :].T, np.asfortranarray(X[:, :5])):
        assert_close(net.predict(view), twin.predict(weights, view), "sum")


def test_probabilities_are_probabilities(dtype):
    X, _ = data(dtype=dtype)
    softmax, _, _ = pair(dtype=dtype)
    assert_close(softmax.predict(X).sum(axis=1), np.ones(len(X)), "pointwise")
    sigmoid, _, _ = pair((5, 1), ("sigmoid",), "binary_cross_entropy", dtype=dtype)
    assert ((sigmoid.predict(X) > 0) & (sigmoid.predict(X) < 1)).all()


def test_labels():
    X, _ = data()
    net, _, _ = pair()
    labels = net.predict_labels(X)
    assert labels.shape == (40,) and labels.dtype.kind == "i"
    assert np.array_equal(labels, net.predict(X).argmax(axis=1))

    net, _, _ = pair((5, 1), ("sigmoid",), "binary_cross_entropy")
    labels = net.predict_labels(X)
    assert labels.shape == (40,) and labels.dtype.kind == "i"
    assert np.array_equal(labels, net.predict(X)[:, 0] > 0.5)
    assert set(labels) == {0, 1}

    net, _, _ = pair((5, 3), ("sigmoid",), "binary_cross_entropy")
    labels = net.predict_labels(X)
    assert labels.shape == (40, 3) and labels.dtype.kind == "i"
    assert np.array_equal(labels, net.predict(X) > 0.5)


@pytest.mark.parametrize("loss, last", [("mse", "linear"), ("huber", "sigmoid")])
def test_a_regression_has_no_labels(loss, last):
    net, _, _ = pair((5, 1), (last,), loss)
    with pytest.raises((TypeError, ValueError, AttributeError, RuntimeError), match="predict_labels|label|regression"):
        net.predict_labels(data()[0])


@pytest.mark.parametrize("weighted", [False, True])
def test_evaluate_classifiers(weighted):
    w = np.linspace(0.0, 2.0, 40) if weighted else None
    cases = [
        ((5, 6, 3), ("tanh", "softmax"), "cross_entropy"),
        ((5, 6, 1), ("tanh", "sigmoid"), "binary_cross_entropy"),
    ]
    for widths, activations, loss in cases:
        net, twin, weights = pair(widths, activations, loss)
        X, y = data(k=widths[-1], loss=loss)
        found = net.evaluate(X, y, sample_weight=w)
        assert set(found) == {"loss", "accuracy"}
        assert found["loss"] == pytest.approx(twin.objective(weights, X, y, w), rel=1e-12)
        right = net.predict_labels(X) == y.ravel()
        assert 0 < right.sum() < 40
        assert found["accuracy"] == pytest.approx(np.average(right, weights=w), rel=1e-12)


def test_evaluate_takes_one_hot_rows():
    net, _, _ = pair()
    X, y = data()
    assert net.evaluate(X, np.eye(3)[y]) == pytest.approx(net.evaluate(X, y), rel=1e-12)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_evaluate_a_regression(loss):
    net, twin, weights = pair((5, 6, 1), ("tanh", "linear"), loss)
    X, y = data(k=1, loss="mse")
    found = net.evaluate(X, y)
    assert set(found) == {"loss", "r2"}
    assert found["loss"] == pytest.approx(twin.objective(weights, X, y), rel=1e-12)
    error = ((twin.predict(weights, X) - y) ** 2).sum()
    assert found["r2"] == pytest.approx(1 - error / ((y - y.mean()) ** 2).sum(), rel=1e-10)


SPREADS = {
    # n_in = 300, n_out = 400
    "zeros": 0.0,
    "normal": 0.01,
    "uniform": 0.05 / 3**0.5,
    "glorot_normal": (2 / 700) ** 0.5,
    "glorot_uniform": (2 / 700) ** 0.5,
    "he_normal": (2 / 300) ** 0.5,
    "he_uniform": (2 / 300) ** 0.5,
    "lecun_normal": (1 / 300) ** 0.5,
    "lecun_uniform": (1 / 300) ** 0.5,
}


def initial(activation="linear", **options):
    net = fastnn.Sequential([fastnn.Dense(400, activation, **options), fastnn.Dense(1)], dtype="float64", seed=1)
    net.build(300)
    return net.get_weights()


@pytest.mark.parametrize("name", SPREADS)
def test_initialisers(name):
    W, b, _, _ = initial(kernel_initializer=name, bias_initializer=name)
    spread = SPREADS[name]
    # 120,000 draws: five standard errors of the mean and of the standard deviation
    assert abs(W.mean()) <= 5 * spread / len(W.ravel()) ** 0.5
    assert W.std() == pytest.approx(spread, rel=0.011)
    if name.endswith("uniform"):
        assert spread * 3**0.5 * 0.999 < np.abs(W).max() <= spread * 3**0.5
    elif name != "zeros":
        assert np.abs(W).max() > 2.0 * spread
    if name in ("zeros", "normal", "uniform"):
        assert b.std() == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("activation", ["linear", "tanh", "relu", "gelu"])
def test_glorot_uniform_is_the_default(activation):
    W, b, _, _ = initial(activation)
    assert W.std() == pytest.approx(SPREADS["glorot_uniform"], rel=0.011)
    assert np.abs(W).max() <= SPREADS["glorot_uniform"] * 3**0.5
    assert not b.any()


def test_layers_of_one_shape_start_apart():
    net = fastnn.Sequential([fastnn.Dense(20, "tanh"), fastnn.Dense(20, "tanh")], seed=0)
    net.build(20)
    W1, _, W2, _ = net.get_weights()
    assert abs(np.corrcoef(W1.ravel(), W2.ravel())[0, 1]) < 0.2
    assert len(np.unique(W1)) == W1.size


def test_initial_weights_of_both_dtypes_are_the_same_draw():
    drawn = []
    for dtype in ("float32", "float64"):
        net = fastnn.Sequential([fastnn.Dense(9)], dtype=dtype, seed=7)
        net.build(8)
        drawn.append(flat(net.get_weights()))
    assert_close(*drawn, "pointwise", "float32")


def test_the_former_name_of_logistic_net_warns():
    with pytest.warns(FutureWarning, match="now called fastnn.logistic_net"):
        net = fastnn.LogisticRegression(n_classes=3)
    assert repr(net) == repr(fastnn.logistic_net(n_classes=3))


def test_logistic_regression_of_two_classes():
    X, y = data(k=1, loss="binary_cross_entropy")
    net = fastnn.logistic_net(dtype="float64")
    net.build(5)
    assert [w.shape for w in net.get_weights()] == [(1, 5), (1,)]
    assert not flat(net.get_weights()).any()
    history = net.fit(X, y, optimizer=fastnn.SGD(1.0), epochs=300, batch_size=None)
    assert history.loss[0] == pytest.approx(np.log(2.0), rel=1e-12)
    assert net.predict(X).shape == (40, 1)
    assert (net.predict_labels(X) == y[:, 0]).mean() > 0.9
    assert isinstance(net, fastnn.Sequential)


def test_logistic_regression_of_three_classes():
    X, y = data()
    net = fastnn.logistic_net(n_classes=3, dtype="float64")
    history = net.fit(X, y, optimizer=fastnn.SGD(1.0), epochs=300, batch_size=None)
    assert [w.shape for w in net.get_weights()] == [(3, 5), (3,)]
    assert history.loss[0] == pytest.approx(np.log(3.0), rel=1e-12)
    assert net.predict(X).shape == (40, 3)
    assert (net.predict_labels(X) == y).mean() > 0.9


def test_logistic_regression_agrees_with_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = data(200, k=1, loss="binary_cross_entropy")
    y = y[:, 0]
    theirs = linear_model.LogisticRegression(C=1.0, tol=1e-12, max_iter=1000).fit(X, y)
    net = fastnn.logistic_net(dtype="float64")
    net.fit(X, y, optimizer=fastnn.SGD(1.0, momentum=0.9), epochs=3000, l2=1.0 / len(X), batch_size=None)
    W, b = net.get_weights()
    np.testing.assert_allclose(W, theirs.coef_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(b, theirs.intercept_, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_divergence_is_told_and_undone(batch_size, dtype):
    # one linear layer: each step multiplies the error by about the same, so that it takes some epochs
    net, twin, weights = pair((5, 1), ("linear",), "mse", dtype=dtype)
    X, y = data(k=1, loss="mse", dtype=dtype)
    with pytest.raises(fastnn.DivergedError) as caught:
        net.fit(X, y, optimizer=fastnn.SGD(5.0), epochs=2000, batch_size=batch_size, shuffle=False)
    message = str(caught.value)
    epoch = int(re.search(r"epoch (\d+)", message)[1])
    last_loss = float(re.search(r"loss\D* (\d\S*[0-9])", message)[1])
    assert epoch >= 2
    batches = None if batch_size is None else reference.in_order(len(X), batch_size)
    _, right = twin.train(weights, X, y, reference.Optimizer("sgd", 5.0), epoch, batches)
    assert last_loss == pytest.approx(right[epoch - 1], rel=1e-3)
    assert np.isfinite(flat(net.get_weights())).all()
    assert np.isfinite(net.evaluate(X, y)["loss"])
    history = net.fit(X, y, optimizer=fastnn.SGD(1e-4), epochs=2, batch_size=None)
    assert np.isfinite(history.loss).all()


def test_divergence_travels_between_processes():
    error = fastnn.DivergedError(3, 0.5, None)
    copied = pickle.loads(pickle.dumps(error))
    assert (copied.epoch, copied.last_loss, str(copied)) == (3, 0.5, str(error))


def test_divergence_after_a_good_start_keeps_the_good_start():
    net, _, _ = pair((5, 4, 1), ("relu", "linear"), "mse")
    X, y = data(k=1, loss="mse")
    net.fit(X, y, optimizer=fastnn.SGD(0.05), epochs=50, batch_size=None)
    good = net.evaluate(X, y)["loss"]
    with pytest.raises(fastnn.DivergedError):
        net.fit(X, y, optimizer=fastnn.SGD(100.0), epochs=500, batch_size=None)
    assert net.evaluate(X, y)["loss"] == pytest.approx(good, rel=1e-9)


INTERRUPTED = """
import numpy as np, fastnn
fastnn.plans.LONG_STEP_SECONDS = {long_step}
rng = np.random.RandomState(0)
X, y = rng.standard_normal((5000, 20)), rng.randint(0, 2, 5000)
net = fastnn.Sequential([fastnn.Dense(32, "tanh"), fastnn.Dense(1, "sigmoid")])
net.fit(X, y, epochs=1, batch_size={batch_size})
before = net.get_weights()
print("fitting", flush=True)
try:
    net.fit(X, y, epochs=2_000_000, batch_size={batch_size})
except KeyboardInterrupt:
    moved = any((a != b).any() for a, b in zip(before, net.get_weights()))
    finite = all(np.isfinite(w).all() for w in net.get_weights()) and np.isfinite(net.predict(X)).all()
    net.fit(X, y, epochs=1, batch_size={batch_size})
    print("moved", moved, "finite", finite, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a subprocess takes no SIGINT there")
@pytest.mark.parametrize(
    "batch_size, long_step", [pytest.param(None, 0.2, marks=pytest.mark.slow), (32, 0.2), (None, 0.0)]
)
def test_control_c_stops_a_long_fit_at_a_completed_step(batch_size, long_step):
    code = INTERRUPTED.format(batch_size=batch_size, long_step=long_step)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as child:
        try:
            first = child.stdout.readline()
            time.sleep(1.5)  # well inside the fit
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=120)
        finally:
            child.kill()
    assert first + out == "fitting\nmoved True finite True\n", err
    assert child.returncode == 0, err


def test_progress_is_a_bar_on_stderr(capfd):
    pytest.importorskip("tqdm")
    net, _, _ = pair()
    X, y = data()
    net.fit(X, y, epochs=20, progress=True)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "20/20" in captured.err


def test_fit_is_silent_unless_asked(capfd):
    net, _, _ = pair()
    X, y = data()
    net.fit(X, y, epochs=20)
    net.predict(X)
    net.evaluate(X, y)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_history_counts():
    net, _, _ = pair()
    X, y = data()
    history = net.fit(X, y, epochs=5, batch_size=9)
    assert history.loss.shape == (5,)
    assert history.steps == 5 * 5
    assert history.seconds >= 0.0
    assert np.size(history.epochs) in (1, 5)


def test_threads_of_the_library():
    before = fastnn.get_num_threads()
    try:
        fastnn.set_num_threads(1)
        assert fastnn.get_num_threads() == 1
        net, _, _ = pair()
        X, y = data()
        net.fit(X, y, epochs=1, threads=1)
        assert fastnn.get_num_threads() == 1
    finally:
        fastnn.set_num_threads(before)
    assert fastnn.get_num_threads() == before >= 1


def test_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", fastnn.__version__)
