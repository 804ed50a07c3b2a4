"""The race against other libraries: its rows at toy sizes, the files of its results, the tables made from them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the race is for Linux")


ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "asv_bench")


@pytest.fixture
def sweeping(monkeypatch):
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


COMPILES = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of torch's own


@pytest.mark.parametrize(
    ("library", "module"),
    [("torch", "torch"), pytest.param("torch.compile", "torch", marks=COMPILES), ("jax", "optax")],
)
def test_all_go_on_where_fastnn_has_come_to(monkeypatch, library, module):
    pytest.importorskip(module)
    import peers
    import racers
    import workers

    monkeypatch.setattr(racers, "CHECKED_STEPS", 4)
    (long,) = (racers.trained_long(work, 3) for work in racers.LONG.values())
    long.rows = 128
    for works in (racers.LONG, racers.WORKLOADS):
        monkeypatch.setitem(works, "toy", long)
    try:
        own, peer = (racers.RACERS[name]("toy", 1) for name in ("fastnn", library))
    except workers.LeftOut as reason:
        pytest.skip(str(reason))
    step, *arrays = own.train_long()
    assert step == 12 and all(len(each) == 6 for each in arrays)
    peer.go_on(step, *arrays)
    before = own.loss()
    assert peer.loss() == pytest.approx(before, rel=1e-5)
    losses = {"fastnn": [own.check()], library: [peer.check()]}
    peers.must_agree("toy", losses)
    # the same steps from moments of zero end elsewhere
    fresh = racers.RACERS[library]("toy", 1)
    fresh.go_on(0, arrays[0], *([np.zeros_like(a).tolist() for a in arrays[0]] for _ in range(2)))
    with pytest.raises(peers.Unequal):
        peers.must_agree("toy", losses | {library: [fresh.check()]})


@pytest.mark.parametrize("library", ["torch", "torch sparse"])
def test_all_train_on_codes_alike(library):
    pytest.importorskip("torch")
    import embedding
    import peers

    row = embedding.Table(500, 8)
    embedding.ROWS[row.name] = row
    losses = {name: [embedding.EMBEDDERS[name](row.name, 1).check()] for name in ("fastnn", library)}
    peers.must_agree(row.name, losses)
    assert all(end < start for start, end in losses[library])


FACTS = {"processor": "One(R) Two Processor", "CPU target": "three", "vector width": "512 bits", "cores": 2}


def made_up(name, shown=(), **times):
    libraries = {library: {"us": us} for library, us in times.items()}
    return {
        "name": name,
        "cores": 1,
        "judged": name in shown,
        "run": "2026-11-26",
        "seconds": 30.0,
        "libraries": libraries,
    }


def results_of(**tables):
    import by_machine

    run = {"rounds": 7, "long_rounds": 3, "versions": {"python": "3.11"}}
    return by_machine.empty(FACTS) | {"runs": {"2026-11-26": run}} | tables


def test_the_tables_show_sweeps_and_searches(sweeping):
    import report

    before = report.markdown(results_of())
    assert "weep" not in before and "earch" not in before
    names = list(sweeping.ROWS)
    rows = [made_up(name, sweeping.SHORT, fastnn=4.0, **{"fastnn loop": 3.0}, jax=10.0, torch=20.0) for name in names]
    rows[1]["two_threads"] = {"ratio": 1.9}
    searched = {"seconds": 2.0, "score": 0.975, "share": 1.0}
    halved, sklearn = searched | {"share": 0.29}, searched | {"seconds": 90.0, "score": 0.97}
    search = made_up(sweeping.SEARCH) | {
        "libraries": {"fastnn": searched, "fastnn halving": halved, "sklearn": sklearn},
        "judged": True,
    }
    codes = made_up("codes", ("codes",), fastnn=2.0, torch=9.0, **{"torch sparse": 8.0})
    result = results_of(embedding=[codes], sweeps=rows, search=[search])
    whole, short = report.markdown(result), report.short([result])
    assert f"| {names[0]} | 1 | 4.00 | **3.00** | 20.0 | 10.0 | 2.50 | – |" in whole
    assert f"| {names[1]} | 1 | 4.00 | **3.00** | 20.0 | 10.0 | 2.50 | 1.90 |" in whole
    assert "| search digits, 162 fits, seconds | 2.00 | 2.00 | 90.0 | 45.0 |" in whole
    assert "| codes | 1 | **2.00** | 9.00 | 8.00 | 4.00 |" in whole and "| codes | 1 | 2.00 µs | 4.00 | – |" in short
    assert "| 0.9750 | 0.9750 | 0.9700 |" in whole and "| 100% | 29% | 100% |" in whole
    assert "8 rows of 2026-11-26, python 3.11; median of 3 or 7 rounds; took 4.00 min." in whole
    assert [name for name in names if name in short] == list(sweeping.SHORT)
    assert "| search digits, 162 fits | 1 | 2.00 s | 45.0 | – |" in short


def test_machines_stand_side_by_side():
    import report

    product = {"name": "matmul NN 512", "order": "NN", "n": 512, "run": "2026-11-26", "peak_gflops": 200.0}
    product["libraries"] = {"fastnn": {"gflops": 100.0}, "torch": {"gflops": 50.0}}
    limited = made_up("one", ("one",), fastnn=2000.0, jax=3000.0, sklearn=9000.0) | {"roofline": {"us": 500.0}}
    pair = {"name": "one", "run": "2026-11-26", "pairs": [[3.0, 2.0]], "ratio": 1.5}
    first = results_of(matmul=[product], two_threads=[pair])
    second = results_of(training=[limited, made_up("unjudged", fastnn=1.0)]) | {"cores": 1}
    text = report.whole([first, second])
    assert "| One Two (three), 2 cores: fastnn |" in text and "| One Two (three), 1 core: fastnn |" in text
    assert "| one | 1 | – | – | – | 2.00 ms | 1.50 | 25% |" in text and "unjudged" not in text
    assert "| matmul NN 512 | 1 | 2.68 ms | 2.00 | 50% | – | – | – |" in text
    assert "| one | 1.50 | – |" in text and "(race-one-two-three-1-core.md)" in text


def test_rows_go_into_the_file_of_the_machine(tmp_path):
    import by_machine

    def raced(date, name, **times):
        run = {"rounds": 1, "long_rounds": 1, "versions": {}}
        row = made_up(name, **times) | {"run": date}
        kept = by_machine.read(FACTS, tmp_path)
        race = {"runs": {date: run, "of no row": run}, "caches": {date: None}}
        taken = by_machine.merge(kept, race, "training", row, ["a", "b", "c"])
        by_machine.write(kept, tmp_path)
        return taken

    assert raced("1", "c", fastnn=1.0, jax=2.0) and raced("1", "a", fastnn=1.0) and raced("2", "b", fastnn=1.0)
    assert raced("3", "a", fastnn=3.0, jax=5.0)  # in the place of the first
    assert not raced("4", "a", fastnn=4.0)  # which has no time of jax
    (file,) = tmp_path.iterdir()
    assert file.name == "one-two-three-2-cores.json"
    (kept,) = by_machine.everything(tmp_path)
    assert kept == json.loads(file.read_text())
    assert [(row["name"], row["run"], row["libraries"]["fastnn"]["us"]) for row in kept["training"]] == [
        ("a", "3", 3.0),
        ("b", "2", 1.0),
        ("c", "1", 1.0),
    ]
    assert list(kept["runs"]) == ["1", "2", "3"] and list(kept["caches"]) == ["1", "2", "3"]


def test_pages_show_the_results_that_are_kept():
    import by_machine
    import report

    machines = by_machine.everything()
    assert machines
    for file, text in report.pages(machines, ROOT).items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name}: python asv_bench/peers.py --readme"


def test_a_length_is_what_was_not_told():
    import peers

    minute = peers.options_of(["--length", "minute"])
    assert all(any(text in name for name in peers.names()) for text in minute.only)
    full, told = peers.options_of([]), peers.options_of(["--length", "minute", "--rounds", "9", "--only", "wide"])
    assert full.only == ("",) and set(minute.libraries) < set(full.libraries)
    assert (told.rounds, told.only, told.libraries) == (9, ["wide"], minute.libraries)
    assert minute.rounds == full.rounds < 9


def test_every_workload_has_a_goal():
    """In another process, since the benchmarks set variables for all of theirs."""
    code = "from benchmarks.training import GOALS, NETS; assert list(GOALS) == list(NETS), set(NETS) ^ set(GOALS)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "asv_bench", check=True)
