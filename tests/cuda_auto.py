"""device="auto" in the simulator, by thresholds that are planted; `test_cuda.py` starts this file."""

import json

import gpu
import numpy as np
import pytest
from nets import data
from test_custom import GATE, SQUARED
from test_devices import plant
from tolerance import assert_near

import fastnn
from fastnn import __main__, backends, devices

assert gpu.SIMULATED, "set NUMBA_ENABLE_CUDASIM=1"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    # of measurements alone: the kernels of the CPU stay where they are compiled already
    monkeypatch.setattr(backends, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(devices, "gpu", lambda: ("a card", None))
    return tmp_path


def net(device="auto", **options):
    return fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(2, "softmax")], device=device, **options)


def least(step, prediction):
    return {
        kind: dict.fromkeys(devices.DTYPES, work) for kind, work in zip(devices.KINDS, (step, prediction), strict=True)
    }


def where(monkeypatch, call):
    """Devices of the plans that a call makes."""
    seen = []

    def watched(device, *arguments, make=fastnn.backends.make_plan):
        seen.append(device)
        return make(device, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fastnn.backends, "make_plan", watched)
        call()
    return seen


def test_plans_go_where_they_are_faster(folder, monkeypatch):
    X, y = data(24, 3, 2)
    auto, here = net(), net("cpu")
    work = auto.build(3).program.flops_per_sample
    plant(folder, thresholds=least(8 * work, 24 * work + 1))
    histories = [auto.fit(X, y, epochs=1, batch_size=batch) for batch in (7, 8)]
    assert [history.device for history in histories] == ["cpu", "cuda"]
    for batch in (7, 8):
        history = here.fit(X, y, epochs=1, batch_size=batch)
    assert history.device == "cpu"
    assert_near(auto.parameters, here.parameters, "training")
    assert where(monkeypatch, lambda: auto.predict(X)) == ["cpu"]
    assert where(monkeypatch, lambda: auto.predict(np.vstack([X, X]))) == ["cuda"]
    assert where(monkeypatch, lambda: auto.predict(gpu.Foreign(X))) == ["cuda"]
    assert where(monkeypatch, lambda: auto.evaluate(X, y)) == ["cpu", "cpu"]


def test_functions_of_the_user_go_where_others_do(folder):
    plant(folder, thresholds=least(0, 0))
    X, y = data(20, 3, 1, "mse")
    own = [fastnn.Sequential([fastnn.Dense(1, GATE)], SQUARED, device=device) for device in ("auto", "cpu")]
    histories = [each.fit(X, y, epochs=1) for each in own]
    assert [history.device for history in histories] == ["cuda", "cpu"]
    assert_near(own[0].parameters, own[1].parameters, "training")


def test_data_of_the_gpu_stay_there(folder):
    X, y = data(20, 3, 2)
    assert net().fit(gpu.Foreign(X), y, epochs=1).device == "cuda"
    given = [(gpu.Foreign(X), y), (X[:5], y[:5])]
    assert net().fit(given, epochs=1).device == "cuda"
    # after a first batch of the host the others come there, too
    nets = net(), net("cpu")
    assert nets[0].fit(given[::-1], epochs=1).device == "cpu"
    nets[1].fit([(X[:5], y[:5]), (X, y)], epochs=1)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)


def test_what_is_measured_is_kept_and_used(folder, monkeypatch, capsys):
    monkeypatch.setattr(devices, "NETS", ((2, 2, 1), (3, 1)))
    monkeypatch.setattr(devices, "BATCHES", (4, 20))
    monkeypatch.setattr(devices, "TRIAL_SECONDS", 0.0)
    monkeypatch.setattr(devices, "ROUNDS", 1)
    assert __main__.main(["devices"]) == 0
    shown = capsys.readouterr().out
    (path,) = folder.glob("devices-*.json")
    result = json.loads(path.read_text())
    assert result["machine"] == {"GPU": "a card", "CPU": devices.processor(), "fastnn": fastnn.__version__}
    assert len(result["cases"]) == 8 and not list(folder.glob("*.tmp"))
    for case in result["cases"]:
        assert f"{case['net']}, {case['batch']}, {case['dtype']}" in shown
        for kind in devices.KINDS:
            times = case[kind]
            assert times["ratio"] == pytest.approx(times["cpu"] / times["cuda"])
    found, missing = devices.thresholds()
    assert missing is None and found == result["thresholds"]
    monkeypatch.setattr(devices, "MOST_WORK", 0)
    assert fastnn.measure_devices()["cases"] == []
    assert devices.thresholds()[0] == least(None, None)
    assert devices.summary() == "the CPU, which won wherever it was measured"
    assert __main__.main(["devices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cases"] == []
