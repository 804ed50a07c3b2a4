"""Training runs against the reference: optimisers, batches, weights, l2, schedules, going on."""

import numba
import numpy as np
import pytest
import reference
from arrays import normal
from nets import OPTIMIZERS, data, flat, pair
from tolerance import assert_close

import fastnn

# ten steps each, printed by reference.Net.train
PINNED = {
    "sgd": [
        1.0374404424862844,
        1.0278658605299529,
        1.0184945640278653,
        1.009355715458161,
        1.0005232787452845,
        0.9919579798302136,
        0.9835479593027863,
        0.9752979853435984,
        0.9660788322227205,
        0.9562171025399449,
    ],
    "adam": [
        0.996084627755988,
        0.9305187698172374,
        0.8746361494138153,
        0.8277559691521278,
        0.7868964596972573,
        0.7494846049419193,
        0.7141004981700537,
        0.6800311706829174,
        0.6467372499463714,
        0.6135917581271702,
    ],
}


@pytest.mark.parametrize("name", PINNED)
def test_ten_pinned_steps(name):
    activations = {"sgd": ("tanh", "relu", "softmax"), "adam": ("gelu", "elu", "softmax")}[name]
    net, twin, weights = pair(activations=activations)
    make, settings = OPTIMIZERS[name]
    X, y = data()
    _, expected = twin.train(weights, X, y, reference.Optimizer(**settings), 10)
    history = net.fit(X, y, optimizer=make(), epochs=10, batch_size=None)
    np.testing.assert_allclose(expected, PINNED[name], rtol=1e-12, atol=0)
    np.testing.assert_allclose(history.loss, PINNED[name], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_for_twenty_steps(name, dtype):
    net, twin, weights = pair(dtype=dtype)
    make, settings = OPTIMIZERS[name]
    X, y = data(dtype=dtype)
    right, losses = twin.train(weights, X, y, reference.Optimizer(**settings), 20)
    history = net.fit(X, y, optimizer=make(), epochs=20, batch_size=None)
    assert_close(flat(net.get_weights()), flat(right), "training", dtype)
    assert_close(history.loss, losses, "training", dtype)
    assert all(w.dtype == dtype for w in net.get_weights())


@pytest.mark.parametrize("batch_size", [1, 7, 16, 40])
@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adam"])
def test_batches_in_order_with_a_short_last_one(name, batch_size, dtype):
    net, twin, weights = pair(dtype=dtype)
    make, settings = OPTIMIZERS[name]
    X, y = data(dtype=dtype)
    batches = reference.in_order(len(X), batch_size)
    right, losses = twin.train(weights, X, y, reference.Optimizer(**settings), 2, batches)
    history = net.fit(X, y, optimizer=make(), epochs=2, batch_size=batch_size, shuffle=False)
    assert_close(flat(net.get_weights()), flat(right), "training", dtype)
    assert_close(history.loss, losses, "training", dtype)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="plain Python takes many minutes")
@pytest.mark.parametrize("rows, batch", [(1, 1), (7, 7), (9, 8), (255, 8), (256, 16), (1023, 16), (1024, 32)])
def test_batches_follow_the_number_of_rows(rows, batch):
    X, y = data(rows, dtype="float32")
    nets = [pair(dtype="float32")[0] for _ in range(3)]
    histories = [net.fit(X, y, **named) for net, named in zip(nets, ({}, {"batch_size": "auto"}), strict=False)]
    histories.append(nets[2].fit(X, y, epochs=50, batch_size=batch))
    assert {history.steps for history in histories} == {50 * -(-rows // batch)}
    assert all(np.array_equal(net.parameters, nets[2].parameters) for net in nets)


def test_batches_follow_the_rows_that_are_trained_on():
    X, y = data(320)
    for settings in ({"validation_split": 0.25}, {"rows": np.arange(240)}):
        assert pair()[0].fit(X, y, epochs=2, **settings).steps == 2 * 240 / 8


@pytest.mark.parametrize("widths", [(1, 1), (2, 4, 1), (3, 1, 1, 2), (17, 33, 16, 15), (70, 5, 64, 31)])
def test_any_widths(widths, dtype):
    activations = ("relu", "sigmoid", "silu")[: len(widths) - 2] + ("linear",)
    net, twin, weights = pair(widths, activations, "mse", dtype=dtype)
    X, y = data(23, widths[0], widths[-1], "mse", dtype)
    batches = reference.in_order(23, 10)
    right, losses = twin.train(weights, X, y, reference.Optimizer("adam", 0.01), 5, batches)
    history = net.fit(X, y, optimizer=fastnn.Adam(0.01), epochs=5, batch_size=10, shuffle=False)
    assert_close(flat(net.get_weights()), flat(right), "training", dtype)
    assert_close(history.loss, losses, "training", dtype)


@pytest.mark.parametrize(
    "loss, output",
    [("binary_cross_entropy", "sigmoid"), ("mse", "linear"), ("mae", "tanh"), ("huber", "linear")],
)
def test_every_loss(loss, output, dtype):
    options = {"huber_delta": 0.3} if loss == "huber" else {}
    net, twin, weights = pair(activations=("tanh", "gelu", output), loss=loss, dtype=dtype, **options)
    X, y = data(loss=loss, dtype=dtype)
    right, losses = twin.train(weights, X, y, reference.Optimizer("sgd", 0.1), 10)
    history = net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=10, batch_size=None)
    assert_close(flat(net.get_weights()), flat(right), "training", dtype)
    assert_close(history.loss, losses, "training", dtype)


def test_one_column_of_regression_targets_may_be_a_vector():
    X, y = data(k=1, loss="mse")
    results = []
    for target in (y, y[:, 0]):
        net, _, _ = pair((5, 4, 1), ("tanh", "linear"), "mse")
        net.fit(X, target, optimizer=fastnn.SGD(0.1), epochs=3, batch_size=None)
        results.append(flat(net.get_weights()))
    assert np.array_equal(*results)


def test_one_hot_rows_train_as_class_indices_do():
    X, y = data()
    results = []
    for target in (y, np.eye(3)[y]):
        net, _, _ = pair()
        net.fit(X, target, optimizer=fastnn.SGD(0.1), epochs=5, batch_size=None)
        results.append(flat(net.get_weights()))
    assert_close(results[0], results[1], "training")


def test_soft_rows_train_against_the_reference():
    net, twin, weights = pair()
    X, _ = data()
    y = reference.softmax(normal(30, len(X), 3))
    right, losses = twin.train(weights, X, y, reference.Optimizer("sgd", 0.1), 5)
    history = net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=5, batch_size=None)
    assert_close(flat(net.get_weights()), flat(right), "training")
    assert_close(history.loss, losses, "training")


@pytest.mark.parametrize("batch_size", [None, 9])
def test_sample_weight(batch_size, dtype):
    net, twin, weights = pair(dtype=dtype)
    X, y = data(dtype=dtype)
    w = np.random.RandomState(0).uniform(0.1, 3.0, len(X)).astype(dtype)
    w[::7] = 0.0
    batches = None if batch_size is None else reference.in_order(len(X), batch_size)
    right, losses = twin.train(weights, X, y, reference.Optimizer("momentum", 0.05), 6, batches, w)
    history = net.fit(
        X,
        y,
        optimizer=fastnn.SGD(0.05, momentum=0.9),
        epochs=6,
        batch_size=batch_size,
        shuffle=False,
        sample_weight=w,
    )
    assert_close(flat(net.get_weights()), flat(right), "training", dtype)
    assert_close(history.loss, losses, "training", dtype)


def test_a_row_of_weight_zero_is_absent():
    X, y = data()
    X[5] = 100.0
    with_row, _, _ = pair()
    without, _, _ = pair()
    with_row.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=5, sample_weight=np.arange(len(X)) != 5, batch_size=None)
    without.fit(np.delete(X, 5, axis=0), np.delete(y, 5), optimizer=fastnn.SGD(0.1), epochs=5, batch_size=None)
    assert_close(flat(with_row.get_weights()), flat(without.get_weights()), "training")


def test_a_batch_without_weight_does_not_end_the_run():
    net, _, _ = pair()
    X, y = data()
    w = np.ones(len(X))
    w[8:16] = 0.0
    history = net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=2, batch_size=8, shuffle=False, sample_weight=w)
    assert np.isfinite(history.loss).all()
    assert np.isfinite(flat(net.get_weights())).all()


@pytest.mark.parametrize("class_weight", [{0: 0.5, 1: 2.0, 2: 1.25}, "balanced"])
@pytest.mark.parametrize("weighted", [False, True])
def test_class_weight_multiplies_the_weight_of_the_sample(class_weight, weighted):
    net, twin, weights = pair()
    X, y = data()
    w = np.linspace(0.5, 1.5, len(X)) if weighted else None
    if class_weight == "balanced":
        counts = np.bincount(y, w, 3)
        assert len(set(counts)) > 1
        factor = (counts.sum() / (3 * counts))[y]
    else:
        factor = np.array([0.5, 2.0, 1.25])[y]
    total = factor if w is None else factor * w
    right, losses = twin.train(weights, X, y, reference.Optimizer("sgd", 0.1), 5, w=total)
    history = net.fit(
        X, y, optimizer=fastnn.SGD(0.1), epochs=5, class_weight=class_weight, sample_weight=w, batch_size=None
    )
    assert_close(flat(net.get_weights()), flat(right), "training")
    assert_close(history.loss, losses, "training")


def test_class_weight_of_two_classes():
    net, twin, weights = pair((5, 4, 1), ("tanh", "sigmoid"), "binary_cross_entropy")
    X, y = data(k=1, loss="binary_cross_entropy")
    right, _ = twin.train(weights, X, y, reference.Optimizer("sgd", 0.1), 5, w=np.where(y[:, 0] == 1, 3.0, 0.5))
    net.fit(X, y[:, 0], optimizer=fastnn.SGD(0.1), epochs=5, class_weight={0: 0.5, 1: 3.0}, batch_size=None)
    assert_close(flat(net.get_weights()), flat(right), "training")


@pytest.mark.parametrize("batch_size", [None, 9])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_l2_counts_in_the_loss_and_spares_the_biases(name, batch_size, dtype):
    net, twin, weights = pair(dtype=dtype, l2=0.2)
    make, settings = OPTIMIZERS[name]
    X, y = data(dtype=dtype)
    batches = None if batch_size is None else reference.in_order(len(X), batch_size)
    right, losses = twin.train(weights, X, y, reference.Optimizer(**settings), 6, batches)
    history = net.fit(X, y, optimizer=make(), epochs=6, batch_size=batch_size, shuffle=False, l2=0.2)
    assert_close(flat(net.get_weights()), flat(right), "training", dtype)
    assert_close(history.loss, losses, "training", dtype)


SCHEDULES = {
    "constant": (lambda: fastnn.Constant(0.1), lambda e: 0.1),
    "step": (lambda: fastnn.StepDecay(0.2, 3, 0.5), lambda e: 0.2 * 0.5 ** (e // 3)),
    "cosine": (
        lambda: fastnn.CosineDecay(0.2, 8, floor=0.01),
        lambda e: 0.01 + 0.19 * 0.5 * (1 + np.cos(np.pi * min(e, 8) / 8)),
    ),
    "inverse time": (lambda: fastnn.InverseTimeDecay(0.2, 0.5), lambda e: 0.2 / (1 + 0.5 * e)),
}


@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_step_by_epoch(schedule, batch_size):
    make, rate = SCHEDULES[schedule]
    net, twin, weights = pair()
    X, y = data()
    batches = None if batch_size is None else reference.in_order(len(X), batch_size)
    rates = [rate(epoch) for epoch in range(10)]
    right, losses = twin.train(weights, X, y, reference.Optimizer("sgd", 0.0), 10, batches, rates=rates)
    history = net.fit(X, y, optimizer=fastnn.SGD(make()), epochs=10, batch_size=batch_size, shuffle=False)
    assert_close(flat(net.get_weights()), flat(right), "training")
    assert_close(history.loss, losses, "training")


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "adamw"])
def test_the_other_optimizers_take_a_schedule(optimizer):
    classes = {"rmsprop": fastnn.RMSprop, "adam": fastnn.Adam, "adamw": fastnn.AdamW}
    net, twin, weights = pair()
    X, y = data()
    rates = [0.02 * 0.5 ** (epoch // 2) for epoch in range(6)]
    more = {"rmsprop": {"momentum": 0.0}, "adam": {}, "adamw": {"decay": 0.01}}[optimizer]
    right, _ = twin.train(weights, X, y, reference.Optimizer(optimizer, 0.0, **more), 6, rates=rates)
    net.fit(X, y, optimizer=classes[optimizer](fastnn.StepDecay(0.02, 2, 0.5)), epochs=6, batch_size=None)
    assert_close(flat(net.get_weights()), flat(right), "training")


def test_full_batch_loss_is_that_before_the_update():
    net, twin, weights = pair()
    X, y = data()
    before = net.evaluate(X, y)["loss"]
    history = net.fit(X, y, optimizer=fastnn.SGD(0.5), epochs=3, batch_size=None)
    assert history.loss.shape == (3,)
    assert history.loss.dtype == np.float64
    assert history.loss[0] == pytest.approx(before, rel=1e-12)
    assert history.loss[0] == pytest.approx(twin.objective(weights, X, y), rel=1e-12)
    after = net.evaluate(X, y)["loss"]
    assert after < history.loss[2] * 0.999
    assert net.fit(X, y, optimizer=fastnn.SGD(0.5), epochs=1, batch_size=None).loss[0] == pytest.approx(
        after, rel=1e-12
    )


def test_history_of_validation():
    net, _, _ = pair()
    X, y = data()
    X_val, y_val = normal(31, 17, 5), np.arange(17) % 3
    history = net.fit(X, y, optimizer=fastnn.SGD(0.5), epochs=4, validation_data=(X_val, y_val))
    assert history.validation_loss.shape == (4,)
    assert history.validation_loss[-1] == pytest.approx(net.evaluate(X_val, y_val)["loss"], rel=1e-12)

    w = np.linspace(0.1, 2.0, 17)
    history = net.fit(X, y, optimizer=fastnn.SGD(0.5), epochs=2, validation_data=(X_val, y_val, w))
    weighted = net.evaluate(X_val, y_val, sample_weight=w)["loss"]
    assert history.validation_loss[-1] == pytest.approx(weighted, rel=1e-12)
    assert abs(weighted - net.evaluate(X_val, y_val)["loss"]) > 1e-4


def test_validation_leaves_training_alone():
    X, y = data()
    results = []
    for validation in (None, (X[:9], y[:9])):
        net, _, _ = pair()
        net.fit(X, y, optimizer=fastnn.Adam(0.02), epochs=4, batch_size=8, validation_data=validation)
        results.append(flat(net.get_weights()))
    assert np.array_equal(*results)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [None, 9])
@pytest.mark.parametrize("name", ["momentum", "nesterov", "rmsprop, momentum", "adam", "adamw"])
def test_a_second_fit_goes_on_from_weights_and_optimizer_state(name, batch_size, shuffle):
    X, y = data()
    make, _ = OPTIMIZERS[name]
    whole, _, _ = pair()
    parts, _, _ = pair()
    losses = whole.fit(X, y, optimizer=make(), epochs=7, batch_size=batch_size, shuffle=shuffle).loss
    optimizer = make()
    settings = dict(optimizer=optimizer, batch_size=batch_size, shuffle=shuffle)
    first = parts.fit(X, y, epochs=3, **settings).loss
    second = parts.fit(X, y, epochs=4, **settings).loss
    assert np.array_equal(flat(parts.get_weights()), flat(whole.get_weights()))
    assert np.array_equal(np.concatenate([first, second]), losses)


def test_a_second_fit_with_the_default_optimizer_goes_on_too():
    X, y = data()
    whole, _, _ = pair()
    parts, _, _ = pair()
    whole.fit(X, y, epochs=6)
    parts.fit(X, y, epochs=4)
    parts.fit(X, y, epochs=2)
    assert np.array_equal(flat(parts.get_weights()), flat(whole.get_weights()))


def test_another_kind_of_optimizer_starts_afresh():
    X, y = data()
    net, twin, weights = pair()
    weights, _ = twin.train(weights, X, y, reference.Optimizer("adam", 0.02), 3)
    right, _ = twin.train(weights, X, y, reference.Optimizer("momentum", 0.05), 3)
    net.fit(X, y, optimizer=fastnn.Adam(0.02), epochs=3, batch_size=None)
    net.fit(X, y, optimizer=fastnn.SGD(0.05, momentum=0.9), epochs=3, batch_size=None)
    assert_close(flat(net.get_weights()), flat(right), "training")


def test_the_worked_example_of_one_neuron(dtype):
    # g(1 + 3 x1 - 2 x2) at (-1, 2) is sigmoid(-6)
    net = fastnn.Sequential([fastnn.Dense(1, "sigmoid")], dtype=dtype)
    net.build(2)
    net.set_weights([np.array([[3.0, -2.0]]), np.array([1.0])])
    output = net.predict(np.array([[-1.0, 2.0]]))
    assert output.shape == (1, 1)
    assert output[0, 0] == pytest.approx(0.0024726, abs=5e-8)


def test_what_a_fit_takes_and_gives_shows_its_values():
    net, _, _ = pair()
    history = net.fit(*data(), optimizer=fastnn.SGD(0.1), epochs=2, batch_size=None)
    assert repr(history).startswith("History(epochs=2, steps=2, seconds=")
    assert f"loss={history.loss[-1]:.6g}" in repr(history)
    assert repr(fastnn.SGD(0.1)) == "SGD(0.1)"
    assert repr(fastnn.Adam(beta1=0.5, clip_norm=1.0)) == "Adam(0.001, beta1=0.5, clip_norm=1)"
    assert repr(fastnn.CosineDecay(0.1, 5)) == "CosineDecay(rate=0.1, epochs=5, floor=0)"


@pytest.mark.parametrize("optimizer", [fastnn.SGD(0.1, momentum=0.9), fastnn.Adam(0.1)], ids=lambda one: one.rule)
def test_a_batch_without_weight_is_no_step(optimizer, dtype):
    X, y = data(30, 4, 1, "mse", dtype)
    weights = np.ones(30)
    weights[10:20] = 0.0
    nets = [fastnn.Sequential([fastnn.Dense(3, "tanh"), fastnn.Dense(1)], dtype=dtype, seed=1) for _ in range(2)]
    settings = dict(optimizer=optimizer, epochs=3, batch_size=10, shuffle=False)
    history = nets[0].fit(X, y, sample_weight=weights, **settings)
    right = nets[1].fit(X, y, rows=np.flatnonzero(weights), **settings)
    assert history.steps == right.steps == nets[0].state.step == 6
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert np.array_equal(history.loss, right.loss)
