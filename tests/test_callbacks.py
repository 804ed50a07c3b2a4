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

    history = net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=5, callbacks=[record], batch_size=None)
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


def test_a_long_fit_does_not_hoard_its_rates(monkeypatch):
    monkeypatch.setattr(fastnn.fit, "CHUNK_SECONDS", 1e9)  # so that a slow machine cuts no epoch
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


class Diary(fastnn.Callback):
    """Writes down what it is told."""

    def __init__(self, stop_at=None):
        self.lines, self.stop_at = [], stop_at

    def begin(self, run):
        self.lines.append(("begin", run.net.state.step, run.history.epochs, run.epochs))

    def chunk(self, run):
        self.lines.append(("chunk", run.net.state.step, run.history.epochs))

    def end(self, run):
        self.lines.append(("end", run.net.state.step, run.history.epochs))


class EpochDiary(Diary):
    def epoch(self, run):
        self.lines.append(("epoch", run.net.state.step, run.history.epochs, len(run.history.validation_loss)))
        if run.history.epochs == self.stop_at:
            run.stop()


def test_hooks_are_called_in_their_order():
    net, _, _ = pair()
    X, y = data()
    diary = EpochDiary(stop_at=2)
    net.fit(X, y, epochs=5, batch_size=20, callbacks=[diary], validation_data=(X, y))
    lines = [line for line in diary.lines if line[0] != "chunk"]
    assert lines == [("begin", 0, 0, 5), ("epoch", 2, 1, 1), ("epoch", 4, 2, 2), ("end", 4, 2)]
    chunks = [i for i, line in enumerate(diary.lines) if line[0] == "chunk"]
    assert len(chunks) >= 2 and diary.lines[chunks[-1] + 1][0] == "epoch"


def test_a_look_at_chunks_alone_does_not_cut_them_at_epochs(monkeypatch):
    monkeypatch.setattr(fastnn.fit, "CHUNK_SECONDS", 100.0)
    X, y = data()
    counts = []
    for diary in (Diary(), EpochDiary()):
        net, _, _ = pair()
        net.fit(X, y, epochs=30, callbacks=[diary])
        counts.append(sum(line[0] == "chunk" for line in diary.lines))
    assert counts == [1, 30]


class StopAtOnce(fastnn.Callback):
    def chunk(self, run):
        run.stop()


def test_a_stop_at_a_chunk_ends_the_fit_inside_an_epoch(monkeypatch):
    monkeypatch.setattr(fastnn.fit, "CHUNK_SECONDS", 1e-9)  # a chunk of one step
    net, _, _ = pair()
    X, y = data()
    diary = EpochDiary()
    history = net.fit(X, y, epochs=5, batch_size=10, shuffle=False, callbacks=[StopAtOnce(), diary])
    assert (history.steps, history.epochs, len(history.loss), len(history.elapsed)) == (1, 0, 0, 0)
    assert diary.lines[-1] == ("end", 1, 0)
    steps, _, _ = pair()
    steps.fit(X[:10], y[:10], epochs=1, batch_size=None)
    assert np.array_equal(net.parameters, steps.parameters)


def test_the_rate_scale_holds_from_the_next_step_on():
    class Halve(fastnn.Callback):
        def epoch(self, run):
            run.rate_scale *= 0.5

    net, _, _ = pair()
    rates = net.fit(*data(), fastnn.SGD(0.4), epochs=4, batch_size=9, callbacks=[Halve()]).learning_rate
    assert rates.tolist() == [0.4, 0.2, 0.1, 0.05]


def test_hooks_at_the_end_are_not_called_after_an_error():
    net, _, _ = pair()
    diary = EpochDiary()
    with pytest.raises(ZeroDivisionError):
        net.fit(*data(), epochs=3, callbacks=[diary, lambda net, history: 1 / 0])
    assert diary.lines[-1][0] == "epoch"


@pytest.mark.parametrize("bad", [3, [3], [fastnn.EarlyStopping], [Diary], "abc"], ids=str)
def test_what_is_no_callback_is_refused(bad):
    net, _, _ = pair()
    with pytest.raises(TypeError, match="callbacks must be a sequence of fastnn.Callback"):
        net.fit(*data(), epochs=1, callbacks=bad)
