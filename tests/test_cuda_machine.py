"""The machine code of the loops, run by asv_bench's model of an H100: a net trained by it is the CPU's. No GPU."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parent.parent / "asv_bench"
sys.path.insert(0, str(BENCH))
import multiprocessor  # noqa: E402
import sass  # noqa: E402

runs = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None
    or sys.platform != "linux"
    or shutil.which("cc") is None
    or sass.disassembler() is None,
    reason="no numba-cuda, no nvdisasm of NVIDIA or no compiler of C on Linux",
)


def trained(*arguments):
    """What the script prints: its phases, and how far the net's parameters are from those of the CPU."""
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "0", "FASTNN_CUDA_LOOP": ""}
    command = [sys.executable, str(BENCH / "cuda_cycles.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    phases = [[int(cell.replace(",", "")) for cell in line.split("|")[1:-1]] for line in lines[2:-3]]
    return phases, float(lines[-1].split(" by ")[1].split()[0])


@runs
@pytest.mark.parametrize("net,barriers", [("2x16", 8), pytest.param("2x64", 12, marks=pytest.mark.slow)])
def test_a_net_trained_by_the_machine_code_is_that_of_the_cpu(net, barriers):
    phases, apart = trained(net)
    assert apart < 2e-6 and len(phases) == barriers
    assert all(cycles > instructions > 20 for _, cycles, instructions, _, _ in phases)


def done(text, *, predicates=(), **registers):
    """The registers and predicates of a warp after one instruction."""
    instruction = sass.Instruction(0, text)
    name = instruction.name
    sass.MEANINGS.get(name.removeprefix("U"), sass.MEANINGS.get(name, sass.unknown))(instruction)
    block = SimpleNamespace(index=0, shared=np.zeros(64, np.uint32))
    warp = multiprocessor.Warp(block, 0, 32, np.zeros(8, np.uint32), None)
    for where, value in registers.items():
        warp.registers[int(where[1:])] = value
    for n in predicates:
        warp.predicates[n] = True
    instruction.act(warp, warp.active if instruction.guard is None else instruction.guard(warp))
    return [int(x) for x in warp.registers[:, 5]], [bool(x) for x in warp.predicates[:, 5]]


@pytest.mark.parametrize("a,b", [(0, 0), (5, 3), (3, 5), (0xFFFFFFFF, 1), (0x80000000, 0x80000000)])
def test_sums_and_differences_of_64_bits_carry(a, b):
    registers, predicates = done("IADD3 R1, P0, R2, R3, RZ", r2=a, r3=b)
    assert (registers[1], predicates[0]) == ((a + b) & 0xFFFFFFFF, a + b > 0xFFFFFFFF)
    registers, predicates = done("IADD3 R1, P0, R2, -R3, RZ", r2=a, r3=b)
    assert (registers[1], predicates[0]) == ((a - b) & 0xFFFFFFFF, a >= b)  # no borrow


@pytest.mark.parametrize("a,b", [(7, 9), (0xFFFFFFFE, 3), (0x12345678, 0x9ABCDEF0)])
def test_products_have_64_bits(a, b):
    registers, _ = done("IMAD.WIDE.U32 R4, R2, R3, R6", r2=a, r3=b, r6=1, r7=2)
    assert registers[4] | registers[5] << 32 == a * b + (2 << 32 | 1)
    registers, _ = done("IMAD.HI.U32 R4, R2, R3, R6", r2=a, r3=b, r6=1, r7=2)
    assert registers[4] == (a * b + (2 << 32 | 1)) >> 32


def test_comparisons_selections_and_tables_of_bits():
    _, predicates = done("ISETP.LT.AND P1, PT, R2, R3, PT", r2=0xFFFFFFFF, r3=1)
    assert predicates[1]  # -1 < 1
    _, predicates = done("ISETP.LT.U32.AND P1, PT, R2, R3, PT", r2=0xFFFFFFFF, r3=1)
    assert not predicates[1]
    assert done("SEL R1, R2, 0x7, !P3", r2=4, predicates=[3])[0][1] == 7
    assert done("LOP3.LUT R1, R2, R3, RZ, 0x3c, !PT", r2=12, r3=10)[0][1] == 12 ^ 10
    assert done("SHF.R.U64 R1, R2, 0x4, R3", r2=0x10, r3=0xF)[0][1] == 0xF0000001
    assert done("PRMT R1, R2, 0x7610, R3", r2=0x44332211, r3=0x88776655)[0][1] == 0x88772211
    assert done("VIADDMNMX R1, R2, -R3, 0x5, PT", r2=1, r3=3)[0][1] == 0xFFFFFFFE  # the least of -2 and 5
    assert done("@!P3 MOV R1, 0x9", predicates=[3])[0][1] == 0


def test_numbers_are_rounded_as_the_instruction_says():
    one = int(np.float32(1).view(np.uint32))
    third = done("FMUL.RM R1, R2, R3", r2=one, r3=int(np.float32(1 / 3).view(np.uint32)))[0][1]
    assert np.uint32(third).view(np.float32) == np.float32(1 / 3)
    assert done("F2I.TRUNC.NTZ R1, R2", r2=int(np.float32(-2.7).view(np.uint32)))[0][1] == 0xFFFFFFFE
    assert done("I2FP.F32.S32 R1, R2", r2=0xFFFFFFFF)[0][1] == int(np.float32(-1).view(np.uint32))
    assert done("HFMA2.MMA R1, -RZ, RZ, 1.875, 0")[0][1] == one  # as the assembler writes 1.0


def test_what_is_not_known_is_named():
    with pytest.raises(NotImplementedError, match="got 'HGMMA.64x256x16.F32 R24, gdesc"):
        done("HGMMA.64x256x16.F32 R24, gdesc[UR4], R24")


def test_rows_of_banks_that_an_access_takes():
    neighbours = 4 * np.arange(32)
    assert sass.shared_wavefronts(neighbours, 1) == 1
    assert sass.shared_wavefronts(32 * neighbours, 1) == 32  # all in one bank
    assert sass.shared_wavefronts(4 * neighbours, 4) == 4
    assert sass.shared_wavefronts(0 * neighbours, 4) == 1  # one for all
