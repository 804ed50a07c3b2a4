"""A row of weight 2 is two rows, one of weight 0 is none; and what weights nothing can be learned from."""

import numpy as np
import pytest
from nets import data, flat, pair

import fastnn

OUTPUT = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax", "mse": "linear"}
X, Y = data()
TIMES = np.arange(40) % 4  # how often a row counts


def mine(y_true, outputs, sample_weight=None):
    return np.average(abs(outputs - y_true) if y_true.ndim == outputs.ndim else outputs[:, 0], weights=sample_weight)


@pytest.mark.parametrize(
    "loss, class_weight",
    [("mse", None), *[(loss, w) for loss in list(OUTPUT)[:2] for w in (None, "balanced", {0: 3.0, 1: 0.5})]],
)
def test_weights_are_repetitions(loss, class_weight):
    k = 3 if loss == "cross_entropy" else 1
    X, y = data(k=k, loss=loss)
    names = ["r2", "neg_mean_absolute_error"] if loss == "mse" else ["accuracy", "f1_macro"]
    names = [*names, mine] if pytest.importorskip("sklearn") else names
    results = []
    times = np.where(np.ravel(y) == 2, 0, TIMES)  # of one class there is nothing
    for rows, weights in ((np.arange(40), times.astype(float)), (np.repeat(np.arange(40), times), None)):
        net, _, _ = pair((5, 4, k), ("tanh", OUTPUT[loss]), loss)
        apart = (X[rows], y[rows]) if weights is None else (X, y, weights)
        settings = dict(sample_weight=weights, class_weight=class_weight, metrics=names, l2=0.01, batch_size=None)
        trained = net.fit(X[rows], y[rows], fastnn.SGD(0.1), 5, **settings)
        held_out = net.fit(X[rows], y[rows], fastnn.SGD(0.1), 2, validation_data=apart, **settings)
        found = [net.parameters, trained.loss, held_out.validation_loss, *trained.metrics.values()]
        found += [*held_out.metrics.values(), list(net.evaluate(*apart, metrics=[mine]).values())]
        results.append(np.concatenate([np.ravel(one) for one in found]))
    np.testing.assert_allclose(*results, rtol=1e-9)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 5.0, 1: 0.0}])
def test_class_weights_are_for_training_alone(class_weight):
    settings = dict(epochs=3, batch_size=7, shuffle=False, sample_weight=TIMES[:30] + 0.5, class_weight=class_weight)
    apart, split = pair()[0], pair()[0]
    one = apart.fit(X[:30], Y[:30], validation_data=(X[30:], Y[30:], TIMES[30:]), metrics=["accuracy"], **settings)
    settings["sample_weight"] = np.concatenate([TIMES[:30] + 0.5, TIMES[30:]])
    other = split.fit(X, Y, validation_split=0.25, metrics=["accuracy"], **settings)
    assert np.array_equal(apart.parameters, split.parameters)
    assert np.array_equal(one.validation_loss, other.validation_loss)
    assert np.array_equal(one.metrics["accuracy"], other.metrics["accuracy"])
    alone = split.fit(X, Y, epochs=1, class_weight=class_weight, metrics=["accuracy"], batch_size=None)
    assert alone.metrics["accuracy"][0] == split.evaluate(X, Y)["accuracy"]


EACH = {0: 0.0, 1: 0.0, 2: 0.0}
TINY, HUGE = np.full(40, 1e-30), np.full(40, 1e30)
UNFIT = {
    "no class counts": ("class_weight", dict(class_weight=EACH)),
    "products underflow": ("class_weight", dict(sample_weight=TINY, class_weight={i: 1e-30 for i in range(3)})),
    "products overflow": ("class_weight", dict(sample_weight=HUGE, class_weight={i: 1e30 for i in range(3)})),
    "one product overflows": ("class_weight", dict(sample_weight=HUGE, class_weight={2: 1e30})),
    "only rows of no weight": ("class_weight", dict(sample_weight=Y == 1, class_weight={1: 0.0})),
    "only other rows": ("class_weight", dict(rows=np.flatnonzero(Y == 1), class_weight={1: 0.0})),
    "only held-out rows": ("class_weight", dict(class_weight=EACH, validation_split=0.5)),
    "zeros": ("sample_weight", dict(sample_weight=np.zeros(40))),
    "weights underflow": ("sample_weight", dict(sample_weight=np.full(40, 1e-46))),
    "subnormal": ("sample_weight", dict(sample_weight=np.full(40, 1e-44))),
    "their sum overflows": ("sample_weight", dict(sample_weight=np.full(40, 3e38))),
    "held out": ("validation sample_weight", dict(validation_data=(X, Y, np.zeros(40)))),
    "held out, underflow": ("validation sample_weight", dict(validation_data=(X, Y, np.full(40, 1e-46)))),
}


@pytest.mark.parametrize("case", UNFIT)
def test_weights_that_nothing_can_be_learned_from_are_refused(case):
    argument, settings = UNFIT[case]
    net = fastnn.Sequential([fastnn.Dense(3, "softmax")])
    with pytest.raises(ValueError, match=rf"^{argument} must be .+; got "):
        net.fit(X, Y, epochs=1, **settings)
    assert net.parameters is None


def test_a_batch_without_weight_is_passed_over():
    none, some = np.zeros(40), np.ones(40)
    one, other = pair()[0], pair()[0]
    found = one.fit([(2 * X, Y, none), (X, Y, some), (3 * X, Y, none)], optimizer=fastnn.SGD(0.1), epochs=3)
    right = other.fit([(X, Y)], optimizer=fastnn.SGD(0.1), epochs=3)
    assert np.array_equal(one.parameters, other.parameters)
    assert np.array_equal(found.loss, right.loss)
    before = flat(one.get_weights())
    with pytest.raises(ValueError, match="^X must be .+ not all of weight 0, in every epoch; got none in epoch 0"):
        one.fit([(X, Y, none)], epochs=2)
    assert np.array_equal(flat(one.get_weights()), before)
    learning = fastnn.Sequential([fastnn.Dense(3, "softmax")], standardize=True)
    with pytest.raises(ValueError, match="^batch 0: sample_weight must be .+; got zeros only"):
        learning.fit([(X, Y, none), (X, Y, some)], epochs=1)
    assert learning.parameters is None
