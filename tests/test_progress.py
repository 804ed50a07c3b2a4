"""The progress bar: what it says and when, and that a fit is the same with it."""

import numpy as np
import pytest
from nets import data, pair

import fastnn
from fastnn import progress

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
    done, text = bar.shown[-1]
    assert done == 12
    assert text.startswith("epoch 12/12 |█")
    assert text.endswith(f" samples/s, loss {history.loss[-1]:.4g}, val {history.validation_loss[-1]:.4g}")
    assert "?" not in text
    written = capfd.readouterr()
    assert written.out == ""
    assert "epoch  0/12 |" in written.err and text.rpartition(",")[2] in written.err


def test_it_says_that_it_compiles_until_the_first_step_can_run(bars, monkeypatch, capfd):
    seen = []
    prepare = fastnn.fit.Run._compile

    def watched(run):
        seen.append(str(bars[0]._bar))
        prepare(run)

    monkeypatch.setattr(fastnn.fit.Run, "_compile", watched)
    fit(epochs=3)
    (before,) = seen
    assert before.startswith("epoch 0/3 |") and before.endswith("| compiling")
    assert all("compiling" not in text and "<" in text for _, text in bars[0].shown)
    written = capfd.readouterr().err
    assert "compiling" in written.split("\r")[1] and "compiling" not in written.rpartition("\r")[2]


def test_each_epoch_shows_its_own_losses(bars):
    X, y = data()
    history = fit(validation_data=(X, y))
    texts = dict(bars[0].shown)
    for epoch in range(12):
        assert texts[epoch + 1].startswith(f"epoch {epoch + 1:>2}/12 ")
        losses = f"loss {history.loss[epoch]:.4g}, val {history.validation_loss[epoch]:.4g}"
        assert texts[epoch + 1].endswith(losses)


def test_it_moves_within_an_epoch(bars, monkeypatch):
    monkeypatch.setattr(fastnn.fit, "CHUNK_SECONDS", 0.0)  # a chunk is a step
    X, _ = data()
    fit(epochs=2)
    steps = -(-len(X) // 7)
    shown = bars[0].shown[: 2 * steps]
    np.testing.assert_allclose([done for done, _ in shown], np.arange(1, 2 * steps + 1) / steps)
    assert shown[0][1].startswith("epoch 0/2 |") and "loss" not in shown[0][1]
    assert shown[-2][1].startswith("epoch 1/2 |") and "loss" in shown[-2][1]


@pytest.mark.parametrize("length", [True, False])
def test_batches_from_an_iterable_move_it_as_far_as_their_number_is_known(bars, monkeypatch, length):
    monkeypatch.setattr(fastnn.fit, "CHUNK_SECONDS", 0.0)
    X, y = data()
    batches = [(X[i : i + 10], y[i : i + 10]) for i in range(0, 40, 10)]

    class Passes:
        def __iter__(self):
            return iter(batches)

    history = pair()[0].fit(batches if length else Passes(), epochs=3, progress=True)
    done = sorted({done for done, _ in bars[0].shown})
    np.testing.assert_allclose(done, np.arange(1, 13) / 4 if length else [0, 1, 2, 3])
    assert bars[0].shown[-1][1].startswith("epoch 3/3 ")
    assert bars[0].shown[-1][1].endswith(f"loss {history.loss[-1]:.4g}")


@pytest.fixture
def clock(monkeypatch):
    """Seconds, in a list, that the bar and tqdm take for the time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])
    return now


def test_it_is_drawn_a_few_times_a_second_however_short_the_epochs(bars, clock, monkeypatch):
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.25)

    def tick(net, history):
        clock[0] += 0.03125

    fit(epochs=32, callbacks=[tick])
    assert [done for done, _ in bars[0].shown] == [1, 9, 17, 25, 32]


@pytest.mark.parametrize("epochs", [3, 12])
def test_a_fit_that_ends_by_itself_leaves_a_full_bar(bars, epochs):
    fit(callbacks=[lambda net, history: history.epochs == epochs])
    bar = bars[0]._bar
    assert bar.n == bar.total == epochs
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
    assert bar.n < bar.total == 12
    assert bar.disable
    assert not tqdm.tqdm._instances


def test_it_does_not_change_the_run(bars):
    (shown, _, _), (silent, _, _) = pair(), pair()
    first, second = fit(shown), fit(silent, progress=False)
    assert len(bars) == 1
    assert np.array_equal(shown.parameters, silent.parameters)
    assert np.array_equal(first.loss, second.loss)


def test_neither_compilation_nor_an_earlier_run_counts(bars, clock):
    history = fastnn.History(4)
    history.buffers.loss[:] = 0.5
    bar = progress.make(True, 4)
    clock[0] += 60.0  # compilation
    with bar:
        bar.start(1, 2000)
        clock[0] += 2.0
        history.epochs = 2
        bar.update(2.0, 4000, history)
        assert bar.shown[-1][1].startswith("epoch 2/4 |█████     | 00:02<00:04, 1.00k samples/s, loss 0.5")
        clock[0] += 1.0
        bar.update(2.5, 5000, history)
        assert bar.shown[-1][1].startswith("epoch 2/4 |██████▎   | 00:03<00:03, 1.00k samples/s, loss 0.5")
