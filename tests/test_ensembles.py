"""The average of several nets: the same bits by every way of asking, in files, in compiled code and in ONNX."""

import copy
import pickle

import numpy as np
import pytest
from nets import data
from numba import njit
from test_custom import GATE
from tolerance import assert_close

import fastnn

X, Y = data(60)
OUTPUTS = {name: record.activation for name, record in fastnn.backends.LOSSES.items() if record.activation}


@njit
def apply_each(net, X, out):
    for i in range(len(X)):
        fastnn.apply(net, X[i], out[i])


def net_of(units=6, loss="cross_entropy", seed=0, **options):
    outputs = 3 * fastnn.backends.LOSSES[loss].outputs_per_target
    layers = [fastnn.Dense(units, "tanh"), fastnn.Dense(outputs, OUTPUTS.get(loss, "linear"))]
    return fastnn.Sequential(layers, loss=loss, seed=seed, **options).build(5)


def three(dtype="float64", weights=None, **options):
    """An ensemble of three unlike nets."""
    return fastnn.Ensemble([net_of(4 + 9 * seed, seed=seed, dtype=dtype, **options) for seed in range(3)], weights)


def average(outputs, weights, dtype):
    """Of what the nets give, as the docstring says."""
    total = np.zeros(outputs[0].shape)
    for output, weight in zip(outputs, weights, strict=True):
        total += weight * output.astype(np.float64)
    return (total / sum(weights)).astype(dtype)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (2.0, 0.5, 4.0)])  # products with these are exact
def test_it_is_the_average_by_every_way_of_asking(weights, dtype, tmp_path):
    pytest.importorskip("safetensors")
    ensemble, rows = three(dtype, weights), X.astype(dtype)
    for some in (rows[:1], rows[:16], rows):
        expected = average([net.predict(some) for net in ensemble.nets], weights, dtype)
        assert np.array_equal(ensemble.predict(some), expected)
        assert np.array_equal(ensemble.predict(some, threads=2), expected)
    expected = average([fastnn.apply(net.freeze(), rows) for net in ensemble.nets], weights, dtype)
    ensemble.save(tmp_path / "ensemble")
    ways = [ensemble, fastnn.load(tmp_path / "ensemble"), pickle.loads(pickle.dumps(ensemble))]
    for one in (*ways, copy.copy(ensemble), copy.deepcopy(ensemble)):
        assert one.weights.tolist() == list(weights) and not one.weights.flags.writeable
        assert np.array_equal(one.predict(rows), ensemble.predict(rows))
        assert np.array_equal(np.vstack([one.predict(row[np.newaxis]) for row in rows]), expected)
        assert np.array_equal(fastnn.apply(one.freeze(), rows), expected)
        assert np.array_equal(fastnn.apply(pickle.loads(pickle.dumps(one.freeze())), np.asfortranarray(rows)), expected)
        assert repr(one) == repr(ensemble) and one.summary() == ensemble.summary()
    out = np.empty((60, 3), dtype)
    apply_each(ensemble.freeze(), rows, out)
    assert np.array_equal(out, expected)
    known = len(getattr(apply_each, "signatures", ()))
    apply_each(ensemble.nets[0].freeze(), rows, out)
    assert np.array_equal(out, fastnn.apply(ensemble.nets[0].freeze(), rows))
    assert len(getattr(apply_each, "signatures", ())) == known  # one compiled function for nets and ensembles


def test_a_net_that_is_named_often_is_kept_once(dtype):
    net, other = net_of(dtype=dtype), net_of(dtype=dtype, seed=1)
    ensemble = fastnn.Ensemble([net, other, net, net], [1.0, 1.0, 0.0, 2.0])
    assert (ensemble.nets, ensemble.weights.tolist()) == ((net, other), [3.0, 1.0])
    assert np.array_equal(ensemble.predict(X), fastnn.Ensemble([net, other], [3, 1]).predict(X))
    assert np.array_equal(fastnn.Ensemble([net]).predict(X), net.predict(X))


def test_a_net_of_weight_0_is_not_asked():
    good, bad = net_of(), net_of(seed=1)
    bad.parameters[:] = np.nan
    ensemble = fastnn.Ensemble([bad, good], [0, 2])
    assert np.array_equal(ensemble.predict(X), good.predict(X))
    assert np.array_equal(fastnn.apply(ensemble.freeze(), X[0]), fastnn.apply(good.freeze(), X[0]))
    assert "0.0%" in ensemble.summary()


@pytest.mark.parametrize("loss", fastnn.backends.LOSSES)
@pytest.mark.parametrize("scaled", [False, True])
def test_losses_and_scores_of_one_net_are_those_of_the_net(loss, scaled, dtype):
    y = data(60, loss=loss)[1]
    y = 10 * y - 3 if loss not in OUTPUTS else y
    net = net_of(loss=loss, dtype=dtype, standardize=scaled, huber_delta=0.3)
    net.fit(X, y, epochs=2)
    w = np.linspace(0.0, 2.0, 60)
    for more in ({}, dict(sample_weight=w), dict(sample_weight=w, rows=[3, 50, 9, 9, 20])):
        expected, found = net.evaluate(X, y, **more), fastnn.Ensemble([net]).evaluate(X, y, **more)
        assert found.keys() == expected.keys()
        assert_close(list(found.values()), list(expected.values()), "sum", dtype)


def test_scores_and_labels_are_of_the_averages():
    ensemble = three(weights=[1, 2, 3])
    outputs = ensemble.predict(X)
    found = ensemble.evaluate(X, Y, metrics=[worst])
    assert found["loss"] == pytest.approx(-np.log(outputs[np.arange(60), Y]).mean(), rel=1e-12)
    assert found["accuracy"] == np.mean(outputs.argmax(axis=1) == Y)
    assert found["worst"] == outputs[np.arange(60), Y].min()
    assert np.array_equal(ensemble.predict_labels(X), outputs.argmax(axis=1))


def worst(y, outputs):
    return outputs[np.arange(len(y)), y].min()


def test_sure_and_wrong_costs_a_finite_loss():
    net = net_of(loss="binary_cross_entropy", dtype="float32")
    net.set_weights([np.zeros((6, 5)), np.zeros(6), np.zeros((3, 6)), [200.0, -200.0, 0.0]])
    y = np.tile([0.0, 1.0, 1.0], (60, 1))
    eps = np.finfo("float32").eps
    loss = fastnn.Ensemble([net]).evaluate(X, y)["loss"]
    assert loss == pytest.approx((-2 * np.log(eps) + np.log(2)) / 3, rel=1e-3)


def test_training_a_net_changes_the_ensemble_and_nothing_frozen():
    ensemble = three()
    before, frozen = ensemble.predict(X), ensemble.freeze()
    outputs = fastnn.apply(frozen, X)
    ensemble.nets[1].fit(X, Y, epochs=1)
    assert not np.array_equal(ensemble.predict(X), before)
    assert np.array_equal(fastnn.apply(frozen, X), outputs)
    with pytest.raises(ValueError, match="read-only"):
        frozen.alphas[0] = 1.0


def test_functions_of_the_user_live_as_long_as_the_frozen_ensemble():
    nets = [fastnn.Sequential([fastnn.Dense(4, GATE), fastnn.Dense(2)], seed=seed).build(5) for seed in range(2)]
    ensemble = fastnn.Ensemble(nets)
    frozen, expected = ensemble.freeze(), ensemble.predict(X[:3])
    with pytest.raises(ValueError, match="net must be of activations and losses that have names"):
        ensemble.save("ensemble")
    del nets, ensemble
    assert np.array_equal(fastnn.apply(frozen, X[:3]), expected)
    with pytest.raises(TypeError, match="activations of your own cannot be pickled"):
        pickle.dumps(frozen)


@pytest.mark.parametrize("loss, scaled", [("cross_entropy", False), ("mse", True)])
def test_onnx(loss, scaled, dtype, tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    ensemble = three(dtype, [3, 0, 1], loss=loss, standardize=scaled)
    for net in ensemble.nets:
        net.fit(X, data(60, loss=loss)[1], epochs=1)
    ensemble.to_onnx(tmp_path / "ensemble.onnx")
    model, rows = onnx.load(tmp_path / "ensemble.onnx"), X.astype(dtype)
    (outputs,) = ReferenceEvaluator(model).run(None, {"X": rows})
    assert outputs.dtype == dtype and model.opset_import[0].version == 13
    assert_close(outputs, ensemble.predict(rows), "training", dtype)


def test_tables_must_have_the_columns_of_the_nets():
    pandas = pytest.importorskip("pandas")
    ensemble, table = three(), pandas.DataFrame(X, columns=list("abcde"))
    ensemble.nets[2].feature_names = list("abcde")
    assert ensemble.feature_names == tuple("abcde")
    assert np.array_equal(ensemble.predict(table), ensemble.predict(X))
    with pytest.raises(ValueError, match="X must be a table with the columns"):
        ensemble.predict(table[list("edcba")])


def named(names):
    net = net_of()
    net.feature_names = names
    return net


REFUSED = [
    (lambda: fastnn.Ensemble([]), ValueError, r"nets must be a list of at least one fastnn.Sequential; got \[\]"),
    (lambda: fastnn.Ensemble(net_of()), TypeError, "nets must be a list"),
    (lambda: fastnn.Ensemble([net_of(), 3]), TypeError, "nets must be a list"),
    (lambda: fastnn.Ensemble([net_of(), fastnn.logistic_net(3)]), fastnn.NotBuiltError, "no parameters"),
    (
        lambda: fastnn.Ensemble([net_of(), net_of(dtype="float64")]),
        ValueError,
        "nets must be nets of the same dtype; got float32 and, at place 1, float64",
    ),
    (lambda: fastnn.Ensemble([net_of(), net_of(loss="mse")]), ValueError, "nets of the same loss; got cross_entropy"),
    (
        lambda: fastnn.Ensemble([net_of(), fastnn.logistic_net(3).build(6)]),
        ValueError,
        "nets of the same n_features; got 5 and, at place 1, 6",
    ),
    (lambda: fastnn.Ensemble([net_of(), fastnn.logistic_net(4).build(5)]), ValueError, "of the same outputs"),
    (
        lambda: fastnn.Ensemble([named(list("abcde")), named(list("edcba"))]),
        ValueError,
        "nets of the same feature_names",
    ),
    (lambda: fastnn.Ensemble([net_of()], [0.0]), ValueError, "weights must be numbers that are not negative"),
    (lambda: fastnn.Ensemble([net_of()], [-1.0]), ValueError, "weights must be numbers that are not negative"),
    (lambda: fastnn.Ensemble([net_of()], [np.nan]), ValueError, "weights must be finite"),
    (lambda: fastnn.Ensemble([net_of()], [1.0, 2.0]), ValueError, r"weights must be an array of shape \(1,\)"),
    (lambda: fastnn.Ensemble([net_of()], 3), TypeError, "weights must be"),
    (lambda: three().predict(X[:, :4]), ValueError, "X must be an array of 5 features"),
    (lambda: three(loss="mse").predict_labels(X), ValueError, "loss must be a cross-entropy for predict_labels"),
    (lambda: three().predict_labels(X * np.nan), ValueError, "X must be rows that the net gives numbers for"),
    (lambda: three().evaluate(X, Y[:-1]), ValueError, "y must be an array of 60 rows"),
]


@pytest.mark.parametrize("call, error, message", REFUSED)
def test_what_it_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_frozen_ensemble_with_other_parts_is_refused():
    frozen, net = three().freeze(), net_of(dtype="float64").freeze()
    with pytest.raises(ValueError, match="net.alphas must be"):
        fastnn.apply(frozen._replace(alphas=frozen.alphas[3:].copy()), X)
    with pytest.raises(ValueError, match="net.parameters must be"):
        fastnn.apply(frozen._replace(parameters=net.parameters), X)


def test_a_saved_ensemble_goes_on_as_its_nets_would(tmp_path):
    pytest.importorskip("safetensors")
    ensemble = three(weights=[1, 2, 3])
    for net in ensemble.nets:
        net.fit(X, Y, epochs=2, batch_size=7)
    ensemble.save(tmp_path / "ensemble")
    again = fastnn.load(tmp_path / "ensemble")
    assert again.weights.tolist() == [1, 2, 3]
    assert again.evaluate(X, Y) == ensemble.evaluate(X, Y)
    for one, other in zip(ensemble.nets, again.nets, strict=True):
        one.state.forget()
        for net in (one, other):
            net.fit(X, Y, epochs=1, batch_size=7)
        assert np.array_equal(one.parameters, other.parameters)
