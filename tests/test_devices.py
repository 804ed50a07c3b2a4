"""device="auto": what is measured, kept and looked up, without a GPU; `cuda_auto.py` runs nets by it."""

import json

import numpy as np
import pytest

import fastnn
from fastnn import __main__, backends, devices, environment

WINS = {kind: {"float32": 1e6, "float64": None} for kind in devices.KINDS}
SETTINGS = dict(dtype=np.dtype("float32"), on_gpu=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where measurements of a machine with a card would be kept."""
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(devices, "gpu", lambda: ("a card", None))
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(backends, "gpu_works", lambda: True)
    return tmp_path


def plant(folder, **changes):
    machine, _ = devices._machine()
    content = {"machine": machine, "thresholds": WINS} | changes
    devices._path(folder, machine).write_text(json.dumps(content))
    devices._kept.cache_clear()


def chosen(work, kind="step", **changes):
    return devices.chosen("auto", work, kind, **(SETTINGS | changes))


def test_the_gpu_is_taken_where_it_was_measured_to_win(folder):
    plant(folder)
    assert [chosen(work) for work in (1e6 - 1, 1e6, 1e9)] == ["cpu", "cuda", "cuda"]
    assert chosen(1e9, dtype=np.dtype("float64")) == "cpu"
    assert chosen(1, on_gpu=True) == "cuda"
    assert [devices.chosen(device, 1, "step", **SETTINGS) for device in ("cpu", "cuda")] == ["cpu", "cuda"]
    assert "1e+06 flops a step, 1e+06 flops a prediction" in devices.summary()
    plant(folder, thresholds=WINS | {"step": {"float32": None, "float64": None}})
    assert chosen(1e9) == "cpu" and chosen(1e9, "prediction") == "cuda"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        b"\xff\xfe\x00",
        {"thresholds": {}},
        {"thresholds": WINS | {"step": {"float32": "1e6", "float64": None}}},
        {"thresholds": WINS | {"step": {"float32": float("nan"), "float64": None}}},
        {"thresholds": WINS | {"step": {"float32": -1, "float64": None}}},
        {"thresholds": WINS | {"step": {"float32": True, "float64": None}}},
        {"machine": {"GPU": "another card", "CPU": "another", "fastnn": "0"}},
        None,
    ],
    ids=str,
)
def test_a_file_that_is_damaged_or_of_another_machine_is_as_good_as_none(folder, content):
    plant(folder, **(content if isinstance(content, dict) else {}))
    (path,) = folder.iterdir()
    if content is None:
        path.rename(folder / "devices-0123456789abcdef.json")  # as another machine's in a shared home
    elif not isinstance(content, dict):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert chosen(1e12) == "cpu"
    assert devices.summary() == "the CPU: not measured on this machine (python -m fastnn devices)"


def test_without_a_file_nobody_asks_the_driver(folder, monkeypatch):
    monkeypatch.setattr(devices, "gpu", None)
    assert chosen(1e12) == "cpu"


def test_what_is_missing_takes_the_cpu_silently(folder, monkeypatch):
    plant(folder)
    monkeypatch.setattr(backends, "gpu_works", lambda: False)
    assert chosen(1e9) == "cpu"
    devices._kept.cache_clear()
    monkeypatch.setattr(devices, "gpu", lambda: (None, "no NVIDIA driver"))
    assert chosen(1e9) == "cpu" and devices.summary() == "the CPU: no NVIDIA driver"
    assert dict(environment.facts())["GPU"] == "none found: no NVIDIA driver"
    devices._kept.cache_clear()
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    assert chosen(1e9) == "cpu" and devices.summary() == "the CPU: no numba-cuda"


def test_a_forked_process_does_not_use_what_its_parent_opened(monkeypatch):
    monkeypatch.setattr(backends, "check_gpu", lambda: None)
    backends._where_it_works.cache_clear()
    assert backends.gpu_works()
    monkeypatch.setattr(backends.os, "getpid", lambda: -1)
    assert not backends.gpu_works()
    backends._where_it_works.cache_clear()


def test_thresholds_are_where_the_gpu_wins_for_good():
    def found(*pairs):
        cases = [{"dtype": "float32", "work": work, "step": {"ratio": ratio}} for work, ratio in pairs]
        other = {"dtype": "float64", "work": 5, "step": {"ratio": 0.1}}
        return devices.least_work([*cases, other], "step", "float32")

    assert found((1, 2.0), (4, 1.1), (2, 3.0)) == 1
    assert found((1, 0.5), (4, 1.1), (2, 3.0)) == 2
    assert found((1, 2.0), (2, 0.9), (4, 1.1), (8, 3.0)) == 4
    assert found((1, 2.0), (2, 0.9), (2, 1.2), (4, 1.1)) == 4  # of the same work one lost
    assert found((1, 2.0), (2, 1.0)) is None


def test_a_net_that_may_choose_takes_the_cpu_where_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    X, y = np.ones((40, 3)), np.ones(40)
    nets = [fastnn.Sequential([fastnn.Dense(1)], device=device) for device in ("cpu", "auto")]
    histories = [net.fit(X, y, epochs=2) for net in nets]
    assert nets[1].device == "auto" and histories[1].device == histories[0].device == "cpu"
    assert np.array_equal(nets[0].predict(X), nets[1].predict(X))
    assert fastnn.History(1).device is None
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda' or 'auto'; got 'gpu'"):
        fastnn.Sequential([fastnn.Dense(1)], device="gpu")


def test_the_command_says_what_is_missing(monkeypatch, capsys):
    def missing():
        raise RuntimeError("no GPU here")

    monkeypatch.setattr(backends, "check_gpu", missing)
    assert __main__.main(["devices"]) == 1
    assert capsys.readouterr().err == "no GPU here\n"
