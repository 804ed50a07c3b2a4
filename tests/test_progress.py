"""The progress bar: what it says and when, and that a fit is the same with it."""

import numpy as np
import pytest
from nets import data, pair

import fastnn
from fastnn import fitting, progress

tqdm = pytest.importorskip("tqdm")


@pytest.fixture
def bars(monkeypatch):
    """The bars that fits make, each with what it showed: (samples, text); drawn at every chance."""
    made = []

    class Watched(progress.Bar):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.shown = []
            made.append(self)

        def _draw(self):
            super()._draw()
            self.shown.append((self._bar.n, str(self._bar)))

    monkeypatch.setattr(progress, "Bar", Watched)
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.0)
    return made


def fit(net=None, **arguments):
    X, y = data()
    net = pair()[0] if net is None else net
    return net.fit(X, y, **(dict(optimizer=fastnn.SGD(0.1), epochs=12, batch_size=7, progress=True) | arguments))


def test_it_tells_epochs_speed_and_losses(bars, capfd):
    X, y = data()
    history = fit(validation_data=(X, y))
    (bar,) = bars
    samples, text = bar.shown[-1]
    assert samples == 12 * len(X)
    assert text.startswith("epoch 12/12 |█")
    assert text.endswith(f"samples/s, loss {history.loss[-1]:.4g}, val {history.validation_loss[-1]:.4g}")
    assert "?" not in text
    written = capfd.readouterr()
    assert written.out == ""
    assert "epoch  0/12 |" in written.err and text.rpartition(",")[2] in written.err


def test_each_epoch_shows_its_own_losses(bars):
    X, y = data()
    history = fit(validation_data=(X, y))
    texts = dict(bars[0].shown)
    for epoch in range(12):
        text = texts[(epoch + 1) * len(X)]
        assert text.startswith(f"epoch {epoch + 1:>2}/12 ")
        assert f"loss {history.loss[epoch]:.4g}, val {history.validation_loss[epoch]:.4g}" in text


def test_it_moves_within_an_epoch(bars, monkeypatch):
    monkeypatch.setattr(fitting, "CHUNK_SECONDS", 0.0)  # a chunk is a step
    X, _ = data()
    fit(epochs=2)
    counts = [samples for samples, _ in bars[0].shown]
    each = [*range(7, len(X), 7), len(X)]
    assert counts[: 2 * len(each)] == [*each, *(len(X) + n for n in each)]
    assert bars[0].shown[0][1].startswith("epoch 0/2 |") and "loss" not in bars[0].shown[0][1]


def test_it_is_drawn_a_few_times_a_second_however_short_the_epochs(bars, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.25)

    def tick(net, history):
        now[0] += 0.03125

    fit(epochs=32, callbacks=[tick])
    drawn = [samples // len(data()[0]) for samples, _ in bars[0].shown]
    assert drawn == [1, 9, 17, 25, 32]


@pytest.mark.parametrize("epochs", [3, 12])
def test_a_fit_that_ends_by_itself_leaves_a_full_bar(bars, epochs):
    fit(callbacks=[lambda net, history: history.epochs == epochs])
    bar = bars[0]._bar
    assert bar.n == bar.total == epochs * len(data()[0])
    assert bars[0].shown[-1][1].startswith(f"epoch {epochs:>2}/12 ")
    assert bar.disable  # closed


def fail(net, history):
    raise LookupError("mine")


def diverge(net, history):
    net.parameters[:] = np.inf


@pytest.mark.parametrize("callback, error", [(fail, LookupError), (diverge, fastnn.DivergedError)])
def test_an_error_leaves_the_bar_where_it_was(bars, callback, error):
    with pytest.raises(error):
        fit(callbacks=[callback])
    bar = bars[0]._bar
    assert bar.n < bar.total == 12 * len(data()[0])
    assert bar.disable
    assert not tqdm.tqdm._instances


def test_it_does_not_change_the_run(bars):
    (shown, _, _), (silent, _, _) = pair(), pair()
    first, second = fit(shown), fit(silent, progress=False)
    assert len(bars) == 1
    assert np.array_equal(shown.parameters, silent.parameters)
    assert np.array_equal(first.loss, second.loss)


def test_the_wait_for_the_kernels_is_not_counted(bars, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])
    bar = progress.make(True, 4, 10)
    now[0] += 60.0  # compilation
    with bar:
        bar.start(0)
        now[0] += 1.0
        history = fastnn.History(4)
        history._loss[0], history.epochs = 0.5, 1
        bar.update(10, history)
        assert "00:01<00:03, 10.0 samples/s, loss 0.5" in bar.shown[-1][1]


def test_a_run_that_goes_on_counts_from_where_it_began(bars, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])
    with progress.make(True, 4, 10) as bar:
        bar.start(20)
        now[0] += 1.0
        history = fastnn.History(4)
        history._loss[:3], history.epochs = 0.5, 3
        bar.update(30, history)
        assert "00:01<00:01, 10.0 samples/s, loss 0.5" in bar.shown[-1][1]
        assert bar.shown[-1][1].startswith("epoch 3/4 ")
