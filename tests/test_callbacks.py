"""What a fit does besides training: callbacks, and what it keeps alive."""

import weakref

import numpy as np
import pytest
from nets import data, pair

import fastnn


def test_a_callback_sees_the_net_after_each_epoch():
    net, twin, _ = pair()
    X, y = data()
    seen = []

    def record(net_now, history):
        assert net_now is net
        seen.append((history.epochs, len(history.loss), net.evaluate(X, y)["loss"]))

    history = net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=5, callbacks=[record])
    assert [row[:2] for row in seen] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]
    # full batch: the loss of an epoch is that before its update, so that after the one before
    np.testing.assert_allclose([row[2] for row in seen[:-1]], history.loss[1:], rtol=1e-12)


def test_callbacks_do_not_change_the_run():
    X, y = data()
    weights = []
    for callbacks in ((), [lambda net, history: None], (lambda net, history: False,) * 2):
        net, _, _ = pair()
        net.fit(X, y, optimizer=fastnn.Adam(0.02), epochs=6, batch_size=7, callbacks=callbacks)
        weights.append(net.parameters.copy())
    assert np.array_equal(weights[0], weights[1])
    assert np.array_equal(weights[0], weights[2])


def test_a_callback_that_returns_true_ends_the_fit():
    net, _, _ = pair()
    stopped, _, _ = pair()
    X, y = data()
    history = stopped.fit(
        X,
        y,
        optimizer=fastnn.SGD(0.1),
        epochs=100,
        callbacks=[lambda net, history: history.epochs == 3],
        validation_data=(X, y),
    )
    assert history.epochs == 3
    assert history.loss.shape == history.validation_loss.shape == (3,)
    net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=3)
    assert np.array_equal(stopped.parameters, net.parameters)


def test_every_callback_is_called_even_when_an_earlier_one_ends_the_fit():
    net, _, _ = pair()
    X, y = data()
    calls = []
    net.fit(X, y, epochs=5, callbacks=[lambda net, history: True, lambda net, history: calls.append(1)])
    assert calls == [1]


def test_an_error_in_a_callback_comes_out_and_leaves_a_usable_net():
    net, _, _ = pair()
    X, y = data()

    def fail(net, history):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        net.fit(X, y, epochs=5, callbacks=[fail])
    assert np.isfinite(net.predict(X)).all()
    assert net.fit(X, y, epochs=2).epochs == 2


class Remembered(fastnn.Constant):
    """A schedule that can tell which of the arrays that it gave out are still alive."""

    def __init__(self, rate):
        super().__init__(rate)
        self.given = []

    def rates(self, epochs):
        rates = super().rates(epochs)
        self.given.append(weakref.ref(rates))
        return rates


def test_a_long_fit_does_not_hoard_its_rates():
    net, _, _ = pair()
    X, y = data()
    schedule, alive = Remembered(0.01), []

    def count(net, history):  # a callback also cuts the run into chunks of one epoch, each with rates of its own
        alive.append(sum(ref() is not None for ref in schedule.given))

    net.fit(X, y, optimizer=fastnn.SGD(schedule), epochs=50, callbacks=[count])
    assert len(schedule.given) == 50
    assert max(alive) <= 2


def test_a_fit_does_not_keep_its_data():
    net, _, _ = pair()
    X, y = data()
    kept = weakref.ref(X)
    net.fit(X, y, epochs=2)
    del X
    assert kept() is None
