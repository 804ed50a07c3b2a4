"""What waits for a GPU, run where there is none: its tests in the simulator, its race at toy sizes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
needs_numba_cuda = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="no numba-cuda: pip install 'fastnn-numba[cu13]'"
)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="races pin their processes to cores")


@needs_numba_cuda
@pytest.mark.slow
@pytest.mark.parametrize("name", ["cuda_arrays", "cuda_gpu", "cuda_interop", "cuda_training", "readme"])
def test_tests_for_a_gpu_in_the_simulator(name):
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-m", "cuda"]
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(
        [*command, f"test_{name}.py"], cwd=TESTS, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr


def race(*arguments, **environment):
    """The finished process of the race."""
    command = [sys.executable, ROOT / "asv_bench" / "cuda_race.py", *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=900)


@pytest.fixture
def raced(monkeypatch):
    """The race's module, with workers that do as they are told: {library: {method: answer or error}}."""
    monkeypatch.syspath_prepend(ROOT / "asv_bench")
    import cuda_race

    answers, made = {}, []

    class Told:
        left_out = None

        def __init__(self, module, kind, cores, patience, library="bench", **more):
            self.library = library
            made.append(library)

        def call(self, method, *arguments):
            answer = answers.get(self.library, {}).get(method, STANDARD[method])
            if isinstance(answer, Exception):
                raise answer
            return answer

        def close(self):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(cuda_race, "Worker", Told)
    monkeypatch.setattr(cuda_race.Race, "keep", lambda self: None)
    cuda_race.answers, cuda_race.made = answers, made
    return cuda_race


STANDARD = {
    "facts": {"card": "a card", "compute capability": "9.0"},
    "warm_up": None,
    "enter": None,
    "check": [1.0, 0.5],
    "prepare": 8,
    "round": 3.0,
    "product": {"fastnn": {"tflops": 30.0}, "cuBLAS": {"tflops": 40.0}},
    "launches": {"one": 5.0},
    "bandwidth": 4000.0,
}


def result_of(raced, seconds=60.0, **options):
    from argparse import Namespace

    libraries = options.pop("libraries", list(raced.KINDS))
    given = Namespace(seconds=seconds, only=[""], rounds=2, libraries=libraries, toy=False, json=None, **options)
    with raced.ExitStack() as stack:
        run = raced.Race(given, stack)
        run.run()
    return run.result


@needs_numba_cuda
@needs_linux
@pytest.mark.slow
def test_the_race_runs_at_toy_sizes(tmp_path):
    file = tmp_path / "toy.json"
    done = race("--toy", "--rounds", 1, "--json", file, "--seconds", 800)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["toy"] and not result["missing"] and not result["failed"], done.stderr
    plain = [row for row in result["training"] if row["precision"] == "float32"]
    for row in plain:
        for library, entry in row["libraries"].items():
            may_lack = library.startswith(("torch", "jax")) and "left_out" in entry
            assert "us" in entry or may_lack, (row["name"], library, entry)
    assert len(result["loops"]) == 2
    (of_table,) = result["tables"]
    assert "us" in of_table["libraries"]["fastnn"], of_table
    assert not any("failed" in entry for entry in of_table["libraries"].values()), of_table
    (sweep,) = result["sweeps"]
    assert "us" in sweep["libraries"]["fastnn, a group"], sweep
    assert not any("failed" in entry for entry in sweep["libraries"].values()), sweep
    assert all("us" in entry for row in result["loops"] for entry in row["libraries"].values())
    for row in result["products"]:
        assert "failed" not in row["libraries"]["fastnn"]
        assert row["libraries"]["fastnn"]["error"] < {"float32": 1e-5, "tf32": 2e-3, "bf16": 2e-2}[row["precision"]]
    assert all(f"| {row['name']} |" in done.stdout for row in plain)
    assert "these times mean nothing" in done.stdout
    again = race("--from", file)
    assert again.returncode == 0 and again.stdout == done.stdout
    refused = race("--from", file, "--readme")
    assert refused.returncode == 2 and "holds toy sizes" in refused.stderr


@needs_numba_cuda
@needs_linux
@pytest.mark.slow
def test_the_race_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('torch is hidden')")
    libraries = "--libraries", "fastnn", "fastnn on the CPU", "torch"
    only = "--only", "2x4", "float32 4", "launches"
    done = race("--toy", "--rounds", 1, *only, *libraries, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "- torch eager is left out of" in done.stdout and "torch is hidden" in done.stdout
    assert "| µs a step | fastnn | fastnn, CPU |\n" in done.stdout


@needs_linux
def test_without_a_gpu_the_race_says_what_is_missing():
    done = race(CUDA_VISIBLE_DEVICES="", NUMBA_ENABLE_CUDASIM="0")
    assert done.returncode == 1 and "error: no race: CUDA kernels need" in done.stderr


@needs_linux
def test_a_row_names_who_failed_and_the_race_goes_on(raced):
    raced.answers["fastnn"] = {"check": raced.WorkerError("it ended:\nTraceback\nCudaAPIError: illegal address")}
    raced.answers["torch graph"] = {"check": [1.0, 0.9]}  # another loss
    raced.answers["torch"] = {"round": raced.WorkerError("torch gave no answer in 60 s")}
    raced.answers["bench"] = {"product": raced.WorkerError("a\nMemoryError: no memory")}
    result = result_of(raced)
    assert len({row["name"] for row in result["training"]}) == len(raced.RACED)
    first = result["training"][0]["libraries"]
    assert first["fastnn"] == {"failed": "CudaAPIError: illegal address"}
    assert first["torch graph"]["failed"] == "went from loss 1.0 to 0.9, not from 1.0 to 0.5 as fastnn on the CPU"
    assert "us" not in first["torch graph"]
    assert first["torch"]["failed"] == "torch gave no answer in 60 s"
    assert first["fastnn on the CPU"]["us"] == first["torch.compile"]["us"] == 3.0
    assert raced.made.count("fastnn") == len(result["training"] + result["tables"])  # a new process after each failure
    assert all(row["libraries"]["fastnn"]["failed"].startswith("MemoryError") for row in result["products"])
    text = raced.cuda_report.markdown(result)
    assert "- fastnn failed in all rows: CudaAPIError: illegal address" in text
    assert "- torch, graph by hand failed in" in text


@needs_linux
def test_what_there_was_no_time_for_is_said(raced):
    result = result_of(raced, seconds=0.0)
    assert not result["training"] and not result["products"]
    assert set(raced.RACED) < set(result["missing"]) and "tf32 1024" in result["missing"]
    assert any(name.endswith(", loops") for name in result["missing"])
    assert "Not measured, for want of time: logistic" in raced.cuda_report.markdown(result)


@needs_linux
def test_an_earlier_race_fills_what_is_missing_and_keeps_its_date(raced):
    first, second, new = result_of(raced), result_of(raced), result_of(raced, seconds=0.0)
    first["date"], first["loops"], second["date"] = "2026-01-02T03:04:05+00:00", [], "2026-02-03T04:05:06+00:00"
    raced.fill(new, first)
    assert not new["loops"] and new["products"] == first["products"]
    assert "tf32 1024" not in new["missing"] and any(name.endswith(", loops") for name in new["missing"])
    raced.fill(new, second)
    assert new["earlier"]["loops"] == second["date"] and new["earlier"]["products"] == first["date"]
    assert new["missing"] and all(name.startswith(tuple(raced.RACED)) for name in new["missing"])  # training alone
    text = raced.cuda_report.markdown(new)
    assert text.count("Of an earlier race on such a card, 2026-01-02 03:04 UTC.") == len(new["earlier"]) - 2
    assert "2026-02-03 04:05 UTC" in text
    with pytest.raises(raced.WorkerError, match="--fill must be a race on a card; got one on another"):
        raced.fill(new, second | {"card": "another"})


@needs_linux
def test_shares_of_cublas_and_of_the_datasheet(raced):
    raced.answers["bench"] = {"facts": {"card": "NVIDIA H200"}}
    text = raced.cuda_report.markdown(result_of(raced, libraries=["fastnn", "torch", "torch graph"]))
    assert "| float32 1024 | 30.0 | 40.0 | 75% | 45% | 60% |" in text  # of 67 TFLOP/s
    assert "moves 4,000 GB/s, 83% of the datasheet" in text
    assert "| 1.00 | 1.00 |" in text


@needs_linux
def test_a_worker_that_hangs_is_given_up(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "asv_bench")
    import workers

    with workers.Worker("threading", "Event", sorted(os.sched_getaffinity(0)), patience=20) as worker:
        assert worker.call("is_set") is False
        worker.patience = 0.2
        with pytest.raises(workers.WorkerError, match="threading.Event gave no answer in 0 s"):
            worker.call("wait")
