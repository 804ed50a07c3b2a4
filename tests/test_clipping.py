"""Gradients limited by value and by norm, against the reference and against torch."""

import numpy as np
import pytest
import recipes
import reference
from nets import OPTIMIZERS, data, flat, pair
from tolerance import assert_close

import fastnn
from fastnn import backends, plans

CLIPS = {"norm": dict(clip_norm=0.05), "value": dict(clip_value=0.01), "both": dict(clip_norm=0.03, clip_value=0.005)}
WAYS = {  # widths, rows, batch
    "shards": ((5, 7, 6, 3), 40, 16),
    "many shards": ((20, 33, 3), 900, 450),
    "pieces": ((300, 120, 9, 3), 90, 8),  # too little work for two shards
    "many shards, wide pieces": ((1100, 150, 3), 60, None),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("clip", CLIPS)
# the last two divide a first gradient by little more than its own size: in float32 any rounding would show
@pytest.mark.parametrize(
    "name, dtype",
    [
        ("sgd", "float32"),
        ("nesterov, decay", "float32"),
        ("sgd", "float64"),
        ("rmsprop", "float64"),
        ("adamw", "float64"),
    ],
)
def test_training_is_the_references(name, clip, way, dtype):
    widths, m, batch_size = WAYS[way]
    activations = ("tanh",) * (len(widths) - 2) + ("softmax",)
    weights = [w * 0.1 for w in recipes.random_weights(widths, 3)]
    net, twin, weights = pair(widths, activations, dtype=dtype, l2=0.05, weights=weights)
    plan = plans.make(net, backends.TRAIN, batch_size or m, 1)
    assert plan["BY_PARTS"] == way.endswith("pieces") and (plan["SHARDS"] > 1) == way.startswith("many shards")
    X, y = data(m, widths[0], dtype=dtype)
    make, settings = OPTIMIZERS[name]
    batches = None if batch_size is None else reference.in_order(m, batch_size)
    right, losses = twin.train(weights, X, y, reference.Optimizer(**settings, **CLIPS[clip]), 2, batches)
    optimizer = make()
    vars(optimizer).update(CLIPS[clip])
    history = net.fit(X, y, optimizer=optimizer, epochs=2, batch_size=batch_size, shuffle=False, l2=0.05)
    assert_close(flat(net.get_weights()), flat(right), "training", dtype)
    assert_close(history.loss, losses, "training", dtype)


def test_a_limit_that_is_not_reached_changes_little_and_clipping_much():
    X, y = data()
    results = []
    for options in ({}, dict(clip_norm=1e6, clip_value=1e6), dict(clip_norm=1e-3)):
        net, _, _ = pair()
        net.fit(X, y, optimizer=fastnn.SGD(0.1, **options), epochs=5, batch_size=None)
        results.append(flat(net.get_weights()))
    assert_close(results[1], results[0], "training")
    start = flat(pair()[0].get_weights())
    # five steps of rate 0.1 along gradients of norm 1e-3
    assert 0 < np.linalg.norm(results[2] - start) <= 5 * 0.1 * 1e-3 * (1 + 1e-9) < np.linalg.norm(results[0] - start)


@pytest.mark.parametrize("options", CLIPS.values())
def test_the_same_bits_on_any_number_of_threads(options):
    X, y = data(700, 300, 3)
    results = []
    for threads in (1, 2, 5):
        net, _, _ = pair((300, 120, 9, 3))
        net.fit(X, y, optimizer=fastnn.Adam(0.01, **options), epochs=3, batch_size=300, threads=threads)
        results.append(flat(net.get_weights()))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_as_torch_clips():
    torch = pytest.importorskip("torch")
    X, y = data()
    net, _, weights = pair()
    tensors = [torch.tensor(w, requires_grad=True) for w in weights]
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y)
    optimizer = torch.optim.SGD(tensors, lr=0.1, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        Z = inputs
        for i, function in enumerate((torch.tanh, torch.nn.functional.softplus, lambda z: z)):
            Z = function(Z @ tensors[2 * i].T + tensors[2 * i + 1])
        torch.nn.functional.cross_entropy(Z, targets).backward()
        torch.nn.utils.clip_grad_value_(tensors, 0.02)
        torch.nn.utils.clip_grad_norm_(tensors, 0.05)
        optimizer.step()
    net.fit(X, y, optimizer=fastnn.SGD(0.1, momentum=0.9, clip_norm=0.05, clip_value=0.02), epochs=20, batch_size=None)
    assert_close(flat(net.get_weights()), flat([t.detach().numpy() for t in tensors]), "torch")


def test_an_infinite_gradient_is_told():
    # the loss is finite at the first step, its gradient is not: clipping must not hide that
    net = fastnn.Sequential([fastnn.Dense(1)], loss="mse").build(1)
    with pytest.raises(fastnn.DivergedError):
        net.fit(np.array([[1e30]]), [1e15], optimizer=fastnn.SGD(1e-3, clip_norm=1.0), epochs=3)
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("make", [fastnn.SGD, fastnn.RMSprop, fastnn.Adagrad, fastnn.Adam, fastnn.AdamW])
@pytest.mark.parametrize("name", ["clip_norm", "clip_value"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1", True])
def test_limits_that_are_none(make, name, value):
    with pytest.raises((TypeError, ValueError), match=f"{name} must be a finite float > 0; got"):
        make(**{name: value})
