"""`python -m fastnn bench`, with trials of no length, and the workloads that it shares with the benchmarks."""

import json

import numpy as np
import pytest

from fastnn import __main__, backends, bench
from fastnn.workloads import WORKLOADS


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(bench, "TRIALS", 1)
    monkeypatch.setattr(bench, "TRIAL_SECONDS", 0.0)
    monkeypatch.setattr(bench, "NETS", bench.NETS[:2])
    monkeypatch.setattr(bench, "SIZES", (33,))
    monkeypatch.setattr(bench, "products_alone", bench.products)


def test_json_holds_what_the_table_shows(short, capsys):
    assert __main__.main(["bench", "--threads", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    works = [work for work in WORKLOADS.values() if work.net_name in bench.NETS]
    assert [step["name"] for step in result["steps"]] == [work.name for work in works]
    for step, work in zip(result["steps"], works, strict=True):
        assert list(step["us"]) == ["1", "2"]
        assert step["share"] * result["peak_gflops"] == pytest.approx(work.flops() / step["us"]["1"] / 1e3)
    (product,) = result["products"]
    assert product["n"] == 33 and min(product["fastnn"], product["numpy"], product["share"]) > 0

    shown = bench.table(result).splitlines()
    for step in result["steps"]:
        (line,) = (line for line in shown if line.startswith(step["name"]))
        assert line.split()[-1] == f"{step['share']:.0%}"


def test_one_thread_has_one_column(short, capsys):
    assert __main__.main(["bench", "--threads", "1"]) == 0
    (heading,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("us a step"))
    assert heading.split()[3:] == ["1", "thread", "of", "peak"]


def test_products_are_measured_where_numpy_has_one_thread(monkeypatch):
    """In another process, whose variables say so."""
    seen = {}

    def run(command, env, **keywords):
        seen.update(env, command=command)
        return type("Done", (), {"stdout": "[]"})

    monkeypatch.setattr(bench.subprocess, "run", run)
    assert bench.products_alone() == []
    assert seen["command"][1:] == ["-m", "fastnn.bench"]
    assert {seen[name] for name in bench.THREAD_VARIABLES} == {"1"}


def test_multiply_add_does_what_is_counted(dtype):
    """Each sum s becomes s x + y, so many times."""
    array = np.linspace(0.1, 0.9, 256).astype(dtype)
    unit = next(n for n in range(1, 1000) if backends.multiply_add(array, n)[1])
    width, steps = unit // 12, 5
    x, y = array[:width].astype(float), array[width : 2 * width].astype(float)
    sums = np.repeat(array[:12, np.newaxis].astype(float), width, axis=1)
    for _ in range(steps):
        sums = sums * x + y
    value, done = backends.multiply_add(array, steps * unit + unit - 1)
    assert (unit, done) == (12 * width, steps * unit)
    assert value == pytest.approx(sums.sum(), rel=1e-5)


def test_workloads_are_steps_that_train():
    """Each loss falls within a few steps, at the rate of the race."""
    for work in WORKLOADS.values():
        if work.flops() < 1e7:
            X, y = work.data()
            losses = work.net().fit(X, y, optimizer=work.rule(), epochs=3, batch_size=work.batch, shuffle=False).loss
            assert losses[-1] < losses[0], work.name
