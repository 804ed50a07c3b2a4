"""Dropout: which units are lost, that they come back in prediction, and training against the reference."""

import numpy as np
import pytest
import recipes
import reference
import reference_random
from arrays import DTYPES
from nets import data, flat, pair
from tolerance import assert_close

import fastnn
from fastnn import backends, plans
from fastnn.kernels.cpu import dropout


@pytest.mark.parametrize("layout", ["C", "F", "reversed"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (40, 5)])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.999])
def test_the_mask_is_the_references(rate, shape, layout, dtype):
    A = np.random.default_rng(0).normal(size=shape).astype(dtype)
    given = {"C": A, "F": np.asfortranarray(A), "reversed": np.ascontiguousarray(A[::-1, ::-1])[::-1, ::-1]}[layout]
    mask = reference_random.dropout_mask(rate, 2**62, 7, 3, 2**33 - 2, *shape)
    out = np.full(shape, np.nan, dtype)
    dropout(rate, 2**62, 7, 3, 2**33 - 2, given, out)
    assert_close(out, A * mask, "pointwise")
    dropout(rate, 2**62, 7, 3, 2**33 - 2, given, given)
    assert np.array_equal(given, out)


def test_masks_are_even_and_independent():
    # counts of a fair draw: five standard deviations at most, over units, samples, epochs, layers and seeds
    A, masks = np.ones((400, 60), np.float32), []
    for seed, epoch, layer in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)):
        out = np.empty_like(A)
        dropout(0.3, seed, epoch, layer, 0, A, out)
        masks.append(out == 0)
    spread = np.sqrt(0.3 * 0.7)
    for mask in masks:
        assert abs(mask.mean() - 0.3) < 5 * spread / np.sqrt(mask.size)
        assert abs(mask.mean(axis=0) - 0.3).max() < 5 * spread / np.sqrt(400)
        assert abs(mask.mean(axis=1) - 0.3).max() < 5 * spread / np.sqrt(60)
        for other in (np.roll(mask, 1, axis=0), np.roll(mask, 1, axis=1)):
            assert abs((mask & other).mean() - 0.09) < 5 * np.sqrt(0.09 * 0.91 / mask.size)
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert abs((one & other).mean() - 0.09) < 5 * np.sqrt(0.09 * 0.91 / one.size)


# shard by shard with few and many features, by rows, and piece by piece
SHAPES = [
    ((5, 7, 6, 3), (0.0, 0.4, 0.0), 40, 16),
    ((5, 7, 6, 3), (0.2, 0.0, 0.5), 40, None),
    ((40, 33, 20, 3), (0.3, 0.5, 0.1), 150, 64),
    ((600, 20, 9, 3), (0.2, 0.3, 0.2), 100, None),
    ((300, 120, 9, 3), (0.2, 0.3, 0.2), 90, 40),
    ((1700, 20, 9, 3), (0.2, 0.3, 0.2), 40, None),
]


@pytest.mark.parametrize("widths, drops, m, batch_size", SHAPES)
def test_training_is_the_references(widths, drops, m, batch_size, dtype):
    weights = [w * 0.3 for w in recipes.random_weights(widths, 3)]
    net, twin, weights = pair(widths, dtype=dtype, seed=11, weights=weights, drops=drops)
    X, y = data(m, widths[0], dtype=dtype)
    batches = None if batch_size is None else reference.in_order(m, batch_size)
    optimizer = reference.Optimizer("sgd", 0.1)
    right, losses = twin.train(weights, X, y, optimizer, 3, batches, drops=drops, seed=11)
    history = net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=3, batch_size=batch_size, shuffle=False, threads=1)
    assert_close(history.loss, losses, "training", dtype)
    assert_close(flat(net.get_weights()), flat(right), "training", dtype)
    assert_close(net.predict(X), twin.predict(right, X), "training")


def test_the_shapes_take_every_path():
    ways = set()
    for widths, drops, m, batch_size in SHAPES:
        net, _, _ = pair(widths, drops=drops)
        plan = plans.make(net, backends.TRAIN, batch_size or m, 1)
        ways.add((plan["BY_PARTS"], plan["BY_ROWS"]))
    assert ways == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_on_any_number_of_threads(dtype):
    X, y = data(700, 300, 3, dtype=dtype)
    results = []
    for threads in (1, 2, 5):
        net, _, _ = pair((300, 120, 9, 3), dtype=dtype, drops=(0.1, 0.5, 0.2))
        history = net.fit(X, y, epochs=3, batch_size=300, threads=threads)
        results.append((flat(net.get_weights()), history.loss))
    for other in results[1:]:
        assert np.array_equal(results[0][0], other[0])
        assert np.array_equal(results[0][1], other[1])


def test_each_epoch_and_each_seed_drops_others():
    X, y = data(60)
    losses = []
    for seed in (0, 1):
        net, _, _ = pair(seed=seed, drops=(0.5, 0.5, 0.0))
        losses += list(net.fit(X, y, optimizer=fastnn.SGD(0.0), epochs=3).loss)
    assert len(set(losses)) == 6


def test_everything_but_fit_sees_the_whole_net():
    X, y = data(60)
    net, twin, weights = pair(drops=(0.3, 0.3, 0.3))
    whole, _, _ = pair()
    assert np.array_equal(net.predict(X), whole.predict(X))
    assert np.array_equal(net.loss_and_gradient(X, y)[1], whole.loss_and_gradient(X, y)[1])
    assert np.array_equal(net.input_gradient(X, y), whole.input_gradient(X, y))
    assert net.evaluate(X, y) == whole.evaluate(X, y)
    assert np.array_equal(fastnn.apply(net.freeze(), X[0]), fastnn.apply(whole.freeze(), X[0]))
    validated = net.fit(X, y, optimizer=fastnn.SGD(0.0), epochs=1, validation_data=(X, y))
    assert validated.validation_loss[0] == pytest.approx(twin.objective(weights, X, y), rel=1e-12)
    assert validated.loss[0] != validated.validation_loss[0]


def test_a_rate_of_zero_changes_nothing():
    X, y = data(60)
    results = []
    for drops in (None, (0.0, 0.0, 0.0)):
        net, _, _ = pair()
        if drops is not None:
            net = fastnn.Sequential(
                [layer for dense in net.layers for layer in (fastnn.Dropout(0), dense)], dtype="float64", seed=0
            ).build(5)
            net.set_weights(pair()[0].get_weights())
        net.fit(X, y, epochs=3, batch_size=16)
        results.append(flat(net.get_weights()))
    assert np.array_equal(*results)


@pytest.mark.parametrize(
    "layers",
    [
        [fastnn.Dropout(0.5)],
        [fastnn.Dense(3), fastnn.Dropout(0.5)],
        [fastnn.Dense(3), fastnn.Dropout(0.5), fastnn.Dropout(0.5), fastnn.Dense(1)],
    ],
)
def test_places_where_dropout_makes_no_sense(layers):
    with pytest.raises(ValueError, match="layers must be a list of fastnn.Dense.*got .*Dropout"):
        fastnn.Sequential(layers)


def test_what_is_shown():
    net = fastnn.Sequential([fastnn.Dropout(0.1), fastnn.Dense(3, "relu"), fastnn.Dropout(0.5), fastnn.Dense(1)])
    assert repr(net).startswith("Sequential([Dropout(0.1), Dense(3, 'relu'), Dropout(0.5), Dense(1, 'linear')]")
    assert net.summary().splitlines()[1].strip() == "Dropout(0.1)"


def test_batches_from_an_iterable_lose_what_batches_of_an_array_lose(dtype):
    X, y = data(70, dtype=dtype)
    results = []
    for batches in (False, True):
        net, _, _ = pair(dtype=dtype, drops=(0.2, 0.5, 0.3))
        if batches:
            history = net.fit([(X[at : at + 16], y[at : at + 16]) for at in range(0, 70, 16)], epochs=3)
        else:
            history = net.fit(X, y, epochs=3, batch_size=16, shuffle=False)
        results.append((flat(net.get_weights()), history.loss))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])


def test_saved_and_loaded(tmp_path):
    X, y = data(60)
    net, _, _ = pair(drops=(0.2, 0.0, 0.5))
    net.save(tmp_path / "net.safetensors")
    other = fastnn.load(tmp_path / "net.safetensors")
    assert repr(other) == repr(net)
    for each in (net, other):
        each.fit(X, y, epochs=2, batch_size=16)
    assert np.array_equal(net.parameters, other.parameters)
