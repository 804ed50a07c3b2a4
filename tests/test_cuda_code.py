"""What the compiler makes of every CUDA kernel, without a GPU: the ceilings of `cuda_table.py`, and no surprises."""

import re
from collections import Counter
from pathlib import Path
from unittest import mock

import cuda_offline
import cuda_table
import pytest

missing = cuda_offline.tools()
pytestmark = pytest.mark.skipif(missing is not None, reason=str(missing))
# one of each kind; the others are of the same making
QUICK = (
    "activation gelu",
    "loss cross_entropy",
    "update adam",
    "product forward, gelu",
    "product, any strides",
    "step",
    "tf32 forward",
)


def check(names, dtypes, capabilities):
    seen = 0
    for name, dtype, capability, own, made, registers, shared in cuda_table.rows(names, dtypes, capabilities):
        seen += 1
        found, what = made.instructions, f"{name}: {own}, {dtype}"
        assert made.registers <= registers, f"{what}: {made.registers} registers"
        assert made.shared <= shared, f"{what}: {made.shared} bytes of shared memory"
        spilled = cuda_table.SPILLED.get((name, dtype, capability), 0)
        assert made.spilled <= spilled, f"{what}: {made.spilled} bytes spilled"
        assert spilled or made.stack == cuda_offline.count(found, *cuda_table.STACK) == 0, what
        if dtype == "float32":
            assert cuda_offline.count(found, *cuda_table.DOUBLE) == 0, what
        copied = own == "product" and dtype == "float32"
        if own in ("update", "product", "tensor_product", "rows", "columns") and not name.endswith("any strides"):
            assert found["LDG.E.128"] > 0 or copied, what
        if own in ("product", "tensor_product"):
            assert found["LDS.128"] > 0 and found["STG.E.128"] > 0, what
        of_samples = own == "run" and dtype == "float32" and "grid" not in name  # to shared memory, past the registers
        assert (cuda_offline.count(found, "LDGSTS") > 0) == (copied or of_samples), what
        if copied:
            instructions, multiplies = made.densest
            # in tiles of 128, 64 and 32, whose 1,024, 512 or 256 may begin before the sums of the rows
            most = next(most for least, most in ((1000, 1.19), (500, 1.17), (250, 1.28)) if multiplies >= least)
            assert instructions <= most * multiplies, f"{what}: {instructions} instructions"
        of_matrices = cuda_offline.count(found, "HMMA.1688.F32.TF32", "HMMA.16816.F32.BF16")
        assert (of_matrices > 0) == (own == "tensor_product"), what
        assert cuda_offline.count(found, "HGMMA") == (cuda_table.IN_A_PANEL if own == "wgmma_product" else 0), what
    assert seen


@pytest.mark.parametrize("name", QUICK)
def test_one_of_each_kind(name):
    check([name], ["float32"], [(9, 0)])


@pytest.mark.slow
@pytest.mark.parametrize("name", cuda_table.KERNELS)
def test_every_kernel(name):
    check([name], ["float32", "float64"], cuda_offline.CAPABILITIES)


def test_older_gpus_copy_through_registers():
    """Below compute capability 8.0 products take no kernel that copies past them."""
    from numba import cuda

    from fastnn.kernels.cuda.launch import copies_past_registers

    with mock.patch.object(cuda, "is_available", lambda: True):
        for capability, past in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
            with cuda_offline.pretended(capability):
                assert copies_past_registers() == past


def test_tensor_cores_multiply_what_the_precision_says():
    for precision, instruction in (("tf32", "HMMA.1688.F32.TF32"), ("bf16", "HMMA.16816.F32.BF16")):
        ((*_, made, _, _),) = cuda_table.rows([f"{precision} forward, small"], ["float32"], [(9, 0)])
        assert made.instructions[instruction] == cuda_offline.count(made.instructions, "HMMA") > 0


def test_wgmma_becomes_one_stretch_of_instructions():
    """The products of a panel begin together, and only the panel before is waited for; copies in bulk bring them."""
    name = "wgmma bf16 weight gradient"
    check([name], ["float32"], [(9, 0, "a")])
    ((*_, made, _, _),) = cuda_table.rows([name], ["float32"], [(9, 0, "a")])
    found = made.instructions
    assert found["WARPGROUP.ARRIVE"] == 1 and found["WARPGROUP.DEPBAR.LE"] == 2 and found["UBLKCP.S.G"] > 0


def test_the_check_sees_what_it_looks_for():
    """Double precision, and a stack, where a kernel has them."""
    from numba import cuda, float32, float64, types

    @cuda.jit(launch_bounds=32, fastmath=False)
    def leaks(x):
        held = cuda.local.array(64, float64)
        for i in range(64):
            held[i] = x[i] * 1.5
        x[0] = held[int(x[1])] + held[int(x[2])]

    made = cuda_offline.compiled(leaks, (types.Array(float32, 1, "C"),), 32, (9, 0))
    assert cuda_offline.count(made.instructions, *cuda_table.DOUBLE) > 0
    assert made.stack > 0 and cuda_offline.count(made.instructions, *cuda_table.STACK) > 0


def test_the_page_has_every_kernel_and_its_ceilings():
    """docs/kernels.md, without compiling; what stands in it beside them is made anew by `cuda_table.py`."""
    page = (Path(__file__).parents[1] / "docs" / "kernels.md").read_text(encoding="utf-8")
    pattern = r"^\| (.+): (\w+) \| (\w+) \| (\w+) \| \d+ of (\d+) \| \d+ of (\d+) \|"
    found = Counter(re.findall(pattern, page, re.MULTILINE))
    right = Counter(
        (name, kernel.py_func.__name__, dtype, cuda_offline.architecture(capability), str(registers), str(shared))
        for name, dtype, kernel, _, _, _, registers, shared in cuda_table.launches(cuda_table.KERNELS)
        for capability in cuda_offline.CAPABILITIES
        if cuda_table.runs_on(name, capability)
    )
    assert page.startswith(cuda_table.HEAD) and found.total() > 600 and found == right
