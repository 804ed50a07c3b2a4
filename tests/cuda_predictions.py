"""The model of a GPU counts what the plans do; `test_cuda.py` starts this file with NUMBA_ENABLE_CUDASIM=1."""

import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numba.cuda.simulator import kernel as simulator

from fastnn.kernels.cuda import schedule

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "asv_bench"))
import cuda_predict  # noqa: E402
from cuda_racers import RACED, TOYS  # noqa: E402


def met(plan, steps, monkeypatch):
    """How often the threads of the one block wait for one another in so many steps."""
    waits, wait = [], simulator.BlockThread.syncthreads

    def counted(thread):
        if thread.threadIdx.x == 0:
            waits.append(thread)
        wait(thread)

    plan.bind_steps(np.full(steps, 0.1), np.zeros(steps))
    with monkeypatch.context() as patch:
        patch.setattr(simulator.BlockThread, "syncthreads", counted)
        plan.execute()
    return len(waits)


@pytest.mark.parametrize("loop", ["block", "shards", "grid"])
@pytest.mark.parametrize("name", TOYS)
def test_barriers_are_those_that_the_simulator_meets(name, loop, monkeypatch):
    monkeypatch.setenv("FASTNN_CUDA_LOOP", loop)
    monkeypatch.setattr(cuda_predict, "PROCESSORS", 1)
    monkeypatch.setattr(schedule, "THREADS", 32)
    row, plan = cuda_predict.of_step(TOYS[name]), cuda_predict.plan_of(TOYS[name])
    few, more = (met(plan, steps, monkeypatch) for steps in (2, 5))
    # a barrier of all blocks meets before it looks at the counter, and after
    assert more - few == 3 * (row.block_barriers + 2 * row.grid_barriers) > 10


def test_operations_of_the_loop_by_the_formula_of_its_layers():
    """Sides that are multiples of four are not filled up: but for the ten outputs, for which twelve are computed."""
    work = RACED["2x64 64-64-64-10, batch 512, Adam"]
    row = cuda_predict.of_step(work)
    assert row.loop == "shards" and row.launches == 1
    forward = backward = 64 * 64 + 64 * 64 + 64 * 12
    assert row.flops == 2 * 512 * (forward + backward + 64 * 64 + 64 * 10)


def test_launches_and_operations_of_the_graph():
    work = RACED["4x1024 1024-1024-1024-1024-1024-10, batch 512, SGD"]
    plan = cuda_predict.plan_of(work)
    launches = cuda_predict.launches_of(plan)
    names = Counter(launch.kernel.fn.__name__ for launch in launches)
    layers = len(work.layers)
    others = "rows", "pick", "losses", "update"
    assert names == {"product": 3 * layers - 2} | dict.fromkeys(others, 1)
    multiply = [each for each in launches if each.kernel.fn.__name__ in ("product", "rows")]
    nodes = [cuda_predict.node_of(each, plan) for each in multiply]
    first, products = work.sizes[0] * work.sizes[1], sum(a * b for a, b in work.layers)
    assert sum(node.flops for node in nodes) == 2 * work.batch * (3 * products - first)


def test_large_products_of_lower_precision_go_by_wgmma():
    """But for the three of the small output layer."""
    work = RACED["4x1024 1024-1024-1024-1024-1024-10, batch 8192, SGD"]
    plan = cuda_predict.plan_of(work, "bf16")
    launches = cuda_predict.launches_of(plan)
    names, large = Counter(launch.kernel.fn.__name__ for launch in launches), len(work.layers) - 1
    assert names["twins"] == names["wgmma_product"] == 3 * large - 1 and names["line_sums"] == large
    assert names["tensor_product"] == 3 and names["product"] == 0
    found = [cuda_predict.node_of(each, plan, "bf16") for each in launches if "wgmma" in each.kernel.fn.__name__]
    assert sum(node.flops for node in found) == 2 * work.batch * 1024**2 * (3 * large - 1)


def test_an_unknown_kernel_is_no_guess():
    plan = cuda_predict.plan_of(RACED["3x256 256-256-256-256-10, batch 8192, Adam"])
    launch = cuda_predict.launches_of(plan)[0]
    launch.kernel = SimpleNamespace(fn=met)
    with pytest.raises(ValueError, match="launch must be of a kernel that the model knows; got met"):
        cuda_predict.node_of(launch, plan)


def test_the_page_is_what_the_script_prints(capsys):
    cuda_predict.main()
    assert capsys.readouterr().out == (ROOT / "docs" / "predictions.md").read_text(encoding="utf-8")
