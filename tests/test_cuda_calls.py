"""What the CUDA backend asks of the driver in one call, counted over a stand-in: no GPU, nothing compiles."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "asv_bench"
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="no numba-cuda"),
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="no compiler of C on Linux"),
]
CODE = f"""
import json, os, sys
sys.path.insert(0, {str(BENCH)!r})
import cuda_calls, fake_driver
driver = fake_driver.load(sys.argv[1])
fake_driver.pretend(driver)
kinds = [cuda_calls.kernels(), cuda_calls.nets()]
found = [{{name: cuda_calls.counts(driver, call) for name, call in calls.items()}} for calls in kinds]
loops = {{}}
for loop in ("grid", "graph"):
    os.environ["FASTNN_CUDA_LOOP"] = loop
    loops[loop] = cuda_calls.counts(driver, cuda_calls.nets()["predict"])
print(json.dumps([*found, loops, cuda_calls.LAUNCHES]))
"""


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Counts of each call, from a process of its own, where nothing of CUDA is imported yet."""
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "0", "FASTNN_CUDA_LOOP": ""}
    command = [sys.executable, "-c", CODE, str(tmp_path_factory.mktemp("driver"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_kernel_is_its_launches_alone(counted):
    from fastnn.kernels import contract, cuda

    found, *_, launches = counted
    assert set(contract.CONTRACTS) & set(cuda.__all__) | {"first_not_finite", "take_rows"} == set(found)
    nothing = dict.fromkeys(("uploads", "reads", "waits", "allocations"), 0)
    for name, counts in found.items():
        assert counts == {"launches": launches.get(name, 1)} | nothing, name


def test_what_a_net_uploads_reads_and_waits_for(counted):
    found = counted[1]
    # up: the rows and the table, together; down: the outputs
    assert found["predict"] == {"launches": 1, "uploads": 1, "reads": 1, "waits": 1, "allocations": 0}
    # up: rows, targets, the numbers of the step, the table; down: table, loss, parameters and both moments
    assert found["partial_fit"] == {"launches": 1, "uploads": 1, "reads": 1, "waits": 1, "allocations": 0}
    assert found["evaluate"] == {"launches": 2, "uploads": 2, "reads": 2, "waits": 2, "allocations": 0}  # outputs, loss
    # weights of 2 MB, too, only where they have changed; of the large net each layer is a launch
    assert found["predict, large"] == {"launches": 4, "uploads": 1, "reads": 1, "waits": 1, "allocations": 0}
    stream = found["100 batches of a stream"]
    assert stream["launches"] == 100 and stream["uploads"] <= 106 and stream["reads"] <= 102  # no parameters in between
    assert stream["allocations"] <= 12  # of the plan


def test_every_loop_gives_the_driver_what_it_takes(counted):
    """Sizes are integers of Python, which a simulator does not ask for."""
    loops = counted[2]
    assert loops["grid"] == {"launches": 1, "uploads": 1, "reads": 1, "waits": 1, "allocations": 0}
    assert loops["graph"] == {"launches": 4, "uploads": 1, "reads": 1, "waits": 1, "allocations": 0}
