"""The experiments that the defaults were chosen by, at toy sizes."""

from pathlib import Path

import numpy as np
import pytest

import fastnn

pytest.importorskip("sklearn")


@pytest.fixture
def defaults(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "asv_bench")
    import defaults

    monkeypatch.setattr(defaults, "NETS", {"4": (4,), "2 x 4": (4, 4)})
    monkeypatch.setattr(defaults, "OPTIMIZERS", {"Adam": fastnn.Adam(0.01)})
    monkeypatch.setattr(defaults, "STARTS", {name: defaults.STARTS[name] for name in ("he_normal", "glorot_uniform")})
    monkeypatch.setattr(defaults, "SIZES", (100,))
    monkeypatch.setattr(defaults, "MARKS", (1, fastnn.fit.EPOCHS))
    return defaults


def test_starting_values_are_drawn_as_they_are_named(defaults):
    net = fastnn.Sequential([fastnn.Dense(300, "relu"), fastnn.Dense(2)]).build(400)
    defaults.start(net, ("torch", "zeros", "glorot_uniform"), seed=0)
    W, b, last, _ = net.get_weights()
    assert 0.99 / 20 < np.abs(W).max() <= 1 / 20 and 0.9 < np.abs(b).max() / (6 / 700) ** 0.5 <= 1
    assert not last.any()


def test_both_experiments_fill_their_tables(defaults):
    records = list(defaults.starts(["flower"], 1, "relu"))
    theirs, ours = (
        [record["curve"][-1][1] for record in records if record["start"] == name] for name in defaults.STARTS
    )
    (line,) = defaults.starts_table(records).splitlines()[2:]
    gains = [100 * (one - other) for one, other in zip(ours, theirs, strict=True)]
    _, start, few, deep, wins, worst, _ = line.split("|")
    assert start.strip() == "glorot_uniform" and wins.strip() == f"{int(np.mean(gains) > 0)} of 1"
    assert [float(cell.split()[0]) for cell in (few, deep, worst)] == pytest.approx([*gains, np.mean(gains)], abs=0.06)
    records = list(defaults.fits(["flower"], 1, "relu"))
    assert {record["batch"] for record in records} == {8, 16, 32, None}
    usual = next(r for r in records if r["rate"] == 1e-3 and r["batch"] == fastnn.fit.Steps().batch(100))
    (_, first, *_), (_, last, _, seconds) = usual["curve"]
    by_batch, by_epochs = (part.splitlines()[2] for part in defaults.fits_table(records).split("\n\n"))
    assert by_batch.startswith(f"| 100 | {defaults.number(100 * last)} | ")
    found = f"| 100 | 8 | {defaults.number(100 * first)} | {defaults.number(100 * last)} | "
    assert by_epochs == found + f"{defaults.number(seconds, 2)} |"
