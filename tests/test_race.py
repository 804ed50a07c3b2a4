"""The rows of sweeps and searches in the race against other libraries, at toy sizes."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the race is for Linux")


@pytest.fixture
def sweeping(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "asv_bench")
    import sweeping

    monkeypatch.setattr(sweeping, "SIZES", {"planar": (400, 20), "digits": (128, 2), "housing": (320, 1)})
    return sweeping


@pytest.mark.parametrize(("library", "module"), [("fastnn loop", "fastnn"), ("torch", "torch"), ("jax", "optax")])
def test_all_train_the_nets_of_a_sweep_alike(sweeping, library, module):
    pytest.importorskip(module)
    import peers

    for label in sweeping.SIZES:
        racer, peer = (sweeping.SWEEPERS[name](label, 5) for name in ("fastnn", library))
        losses = {"fastnn": racer.check(), library: peer.check()}
        peers.must_agree(label, losses)
        assert all(end < start for start, end in losses[library])
        if library == "fastnn loop":
            assert losses["fastnn"] == losses[library]
        with pytest.raises(peers.Unequal, match=f"{library} went from loss"):
            peers.must_agree(label, losses | {library: losses[library][::-1]})
        assert min(racer.round(), peer.round()) > 0


def test_searches_try_the_same_candidates(sweeping, monkeypatch):
    pytest.importorskip("sklearn")
    toy = dict(WIDTHS=(4, 8, 16), RATES=(1e-4, 1e-2, 3e-2), L2=(1e-5,), EPOCHS=9, FOLDS=2, BATCH=64)
    for name, value in toy.items():
        monkeypatch.setattr(sweeping, name, value)
    found = {name: kind().round() for name, kind in sweeping.SEARCHERS.items()}
    assert found["fastnn"]["share"] == found["sklearn"]["share"] == 1.0
    assert found["fastnn halving"]["share"] == pytest.approx((6 * 1 + 2 * 3 + 1 * 9) / (9 * 9))
    scores = np.array([each["score"] for each in found.values()])
    assert np.all(scores > 0.9) and np.ptp(scores) < 0.03


@pytest.mark.parametrize("library", ["torch", "torch sparse"])
def test_all_train_on_codes_alike(sweeping, library):
    pytest.importorskip("torch")
    import embedding
    import peers

    row = embedding.Table(500, 8)
    embedding.ROWS[row.name] = row
    losses = {name: [embedding.EMBEDDERS[name](row.name, 1).check()] for name in ("fastnn", library)}
    peers.must_agree(row.name, losses)
    assert all(end < start for start, end in losses[library])


def made_up(name, shown, **times):
    return {"name": name, "cores": 1, "judged": name in shown, "libraries": {k: {"us": v} for k, v in times.items()}}


def test_the_tables_show_sweeps_and_searches(sweeping):
    import report

    empty = dict(training=[], two_threads=[], predict=[], matmul=[], versions={"python": "3.11"}, date="2026-11-26")
    result = empty | {"processor": "one", "vector width": "512 bits", "rounds": 7, "long_rounds": 3}
    before = report.markdown(result)
    assert "weep" not in before and "earch" not in before
    names = list(sweeping.ROWS)
    rows = [made_up(name, sweeping.SHORT, fastnn=4.0, **{"fastnn loop": 3.0}, jax=10.0, torch=20.0) for name in names]
    rows[1]["two_threads"] = {"ratio": 1.9}
    searched = {"seconds": 2.0, "score": 0.975, "share": 1.0}
    halved, sklearn = searched | {"share": 0.29}, searched | {"seconds": 90.0, "score": 0.97}
    libraries = {"fastnn": searched, "fastnn halving": halved, "sklearn": sklearn}
    result["embedding"] = [made_up("codes", (), fastnn=2.0, torch=9.0, **{"torch sparse": 8.0})]
    result |= {"sweeps": rows, "search": [{"name": sweeping.SEARCH, "cores": 1, "libraries": libraries}]}
    whole, short = report.markdown(result), report.short(result)
    assert f"| {names[0]} | 1 | 4.00 | **3.00** | 20.0 | 10.0 | 2.50 | – |" in whole
    assert f"| {names[1]} | 1 | 4.00 | **3.00** | 20.0 | 10.0 | 2.50 | 1.90 |" in whole
    assert "| search digits, 162 fits, seconds | 2.00 | 2.00 | 90.0 | 45.0 |" in whole
    assert "| codes | 1 | **2.00** | 9.00 | 8.00 | 4.00 |" in whole and "| codes |" in short
    assert "| 0.9750 | 0.9750 | 0.9700 |" in whole and "| 100% | 29% | 100% |" in whole
    assert "7 rounds (sweeps and searches: 3)" in whole
    assert [name for name in names if name in short] == list(sweeping.SHORT) and "45.0" in short and "29%" not in short
