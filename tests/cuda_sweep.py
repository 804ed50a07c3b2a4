"""Sweeps on a GPU, in the simulator: each net has the bits of its fit alone; `test_cuda.py` starts this file."""

import gpu
import numpy as np
import pytest
from arrays import normal

import fastnn
from fastnn.kernels.cuda import launch, schedule
from fastnn.kernels.cuda import sweep as cuda_sweep

assert gpu.SIMULATED, "set NUMBA_ENABLE_CUDASIM=1"

X = normal(1, 10, 3).astype("float32")
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int)


@pytest.fixture(autouse=True)
def few_threads(monkeypatch):
    monkeypatch.setattr(schedule, "THREADS", 32)
    monkeypatch.setattr(launch, "THREADS", 32)


def layers(width):
    return [fastnn.Dense(width, "tanh"), fastnn.Dense(2, "softmax")]


def alone(trial, X, y, epochs, **how):
    values = dict(trial.values)
    net = fastnn.Sequential(layers(values["width"]), device="cuda", seed=values["seed"])
    history = net.fit(X, y, optimizer=values["optimizer"], batch_size=4, epochs=epochs, **how)
    return net, history


def assert_same(trial, net, history):
    assert np.array_equal(trial.losses[0], history.loss)
    assert trial.nets[0].parameters.tobytes() == net.parameters.tobytes()
    assert np.array_equal(trial.nets[0].state.table, net.state.table)
    for one, other in zip(trial.nets[0].state.moments, net.state.moments, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("together", [True, False])
def test_each_net_has_the_bits_of_its_fit_alone(together, monkeypatch):
    if not together:
        monkeypatch.setattr(cuda_sweep, "fits", lambda block, dtype: False)
    optimizers = [fastnn.SGD(0.1), fastnn.SGD(fastnn.CosineDecay(0.5, epochs=2)), fastnn.Adam(0.05)]
    sweep = fastnn.Sweep(layers, device="cuda", width=3, optimizer=optimizers, batch_size=4, seed=[0, 1])
    result = sweep.fit(X[:7], LABELS[:7], epochs=2, validation_data=(X[7:], LABELS[7:]))
    for trial in result.trials[::2] if together else result.trials[:3:2]:
        net, history = alone(trial, X[:7], LABELS[:7], 2)
        assert_same(trial, net, history)
        found = net.evaluate(X[7:], LABELS[7:])
        assert trial.score == found["accuracy"]
        assert trial.scores["loss"][0] == pytest.approx(found["loss"], rel=1e-6)


@pytest.mark.parametrize("together", [pytest.param(True, marks=pytest.mark.slow), False])
def test_early_stopping_halving_and_divergence(together, monkeypatch):
    if not together:
        monkeypatch.setattr(cuda_sweep, "fits", lambda block, dtype: False)
    stops = dict(patience=1, min_delta=0.01)
    optimizers = (
        [fastnn.SGD(0.5), fastnn.SGD(2.0), fastnn.SGD(1.0, weight_decay=1e38)] if together else [fastnn.SGD(2.0)]
    )
    sweep = fastnn.Sweep(layers, device="cuda", width=3, optimizer=optimizers, batch_size=4, seed=0)
    held = X[7:], LABELS[7:]
    early = fastnn.EarlyStopping(**stops)
    result = sweep.fit(X[:7], LABELS[:7], epochs=4, validation_data=held, early_stopping=early)
    assert [trial.diverged for trial in result.trials] == ([False, False, True] if together else [False])
    for trial in result.trials[:2]:
        how = dict(validation_data=held, callbacks=[fastnn.EarlyStopping(**stops)])
        net, history = alone(trial, X[:7], LABELS[:7], 4, **how)
        assert (trial.epochs, trial.best_epochs) == (history.epochs, [history.best_epoch])
        assert_same(trial, net, history)
    if together:
        halved = sweep.fit(X[:7], LABELS[:7], epochs=4, validation_data=held, halving=2)
        assert sorted(trial.rounds for trial in halved.trials) == [1, 1, 2]
        assert_same(halved.best, *alone(halved.best, X[:7], LABELS[:7], 4))
