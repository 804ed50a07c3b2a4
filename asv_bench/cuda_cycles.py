"""Where the cycles of a step on a GPU go, found without one: the machine code of a loop, run by `multiprocessor.py`.

python asv_bench/cuda_cycles.py                 steps of 2x16 by 32 in one block, phase by phase
python asv_bench/cuda_cycles.py 2x64            of 2x64 by 32, in eight blocks of shards
python asv_bench/cuda_cycles.py 2x16 --trace 3  all that the last warp of phase 3 did, cycle by cycle

The net is trained on the way, over `fake_driver.py`: the last line compares its parameters with those of the CPU. Needs
a compiler of C, numba-cuda, and NVIDIA's nvdisasm (pip install nvidia-cuda-nvdisasm); of GPUs it knows the H100.
"""

import argparse
import ctypes
import os
import sys
import tempfile
import traceback
from pathlib import Path
from types import SimpleNamespace

import fake_driver
import numpy as np

NETS = {"2x16": (2, 16, 32), "2x64": (2, 64, 32), "3x256": (3, 256, 32)}  # hidden layers, width, batch
STEPS = 4
CLOCK = 1.98e9


class _Config(ctypes.Structure):
    """The first fields of CUlaunchConfig."""

    _fields_ = [(name, ctypes.c_uint) for name in ("x", "y", "z", "threads")]


def run_kernels(driver, folder, kept=True):
    """From now on the machine runs each kernel that is launched; gives the list to which it adds (machine, cycles).

    Parameters
    ----------
    driver : ctypes.CDLL
        What `fake_driver.load` gave.
    folder : path
        For the machine code.
    kept : bool, optional
        Whether the machines keep what each warp of the first block did.
    """
    from multiprocessor import Machine
    from numba.cuda.codegen import CUDACodeLibrary

    from fastnn.kernels.cuda import toolchain

    runs, machines, known = [], {}, {}
    loaded, get_cubin = toolchain.Launch.loaded, CUDACodeLibrary.get_cubin

    def kept_code(self, cc=None):
        code = get_cubin(self, cc)
        self.machine_code = bytes(code.code)
        return code

    def load(each, device):
        made = loaded(each, device)
        if int(made.handle) not in known:
            compiled = each.kernel.overloads[tuple(each.kernel.typeof_pyval(kind(0)) for kind in each.kinds)]
            path = Path(folder) / f"{len(known)}.cubin"
            path.write_bytes(compiled.library.machine_code)
            known[int(made.handle)] = path, each.kinds
        return made

    def launch(config, function, arguments):
        try:
            shape = ctypes.cast(config, ctypes.POINTER(_Config)).contents
            path, kinds = known[function]
            if path not in machines:
                machines[path] = Machine(path, kept)
            parameters = bytearray()
            for kind, argument in zip(kinds, arguments[: len(kinds)], strict=True):
                size = 8 if kind is int else np.dtype(kind).itemsize
                parameters += bytes(-len(parameters) % size) + ctypes.string_at(argument, size)
            cycles = machines[path].launch(shape.x, shape.threads, bytes(parameters))
            runs.append((machines[path], cycles))
        except BaseException:  # C has called: nobody is there to catch it
            traceback.print_exc()
            os._exit(1)

    CUDACodeLibrary.get_cubin, toolchain.Launch.loaded = kept_code, load
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p))
    driver.runs_kernels = kind(launch)  # as long as the driver may call it
    driver.fake_launcher(driver.runs_kernels)
    return runs


def phases(machine):
    """What lies between the barriers of the first block: for each warp its issues, and when the last one came."""
    found, at = [], [0] * len(machine.issues)
    while True:
        warps = []
        for warp, issues in enumerate(machine.issues):
            first = at[warp]
            while at[warp] < len(issues) and issues[at[warp]].instruction.kind != "barrier":
                at[warp] += 1
            at[warp] += 1
            warps.append(issues[first : at[warp]])
        if any(at[warp] > len(issues) for warp, issues in enumerate(machine.issues)):
            return found
        ends = [issues[-1].cycle for issues in warps]
        found.append(SimpleNamespace(warps=warps, last=int(np.argmax(ends)), end=max(ends)))


def step_of(barriers):
    """(first, end) phase of the last step, of the places of the barriers at their ends: one that each step comes by."""
    once = next(place for place in barriers if barriers.count(place) == STEPS)
    last = [phase for phase, place in enumerate(barriers) if place == once][-2:]
    return last[0] + 1, last[1] + 1


def trained(name, device, steps=STEPS):
    """A net of a shape of NETS after so many steps, of batches in an order of its own."""
    import fastnn

    layers, width, batch = NETS[name]
    X = np.random.default_rng(0).normal(size=(steps * batch, width)).astype("f")
    made = [fastnn.Dense(width, "relu") for _ in range(layers)] + [fastnn.Dense(10, "softmax")]
    net = fastnn.Sequential(made, device=device, seed=0)
    net.fit(X, np.arange(len(X)) % 10, epochs=1, batch_size=batch, optimizer=fastnn.Adam(1e-3))
    return net


def apart(net, other):
    """The largest difference of two nets' parameters, as a share of the largest parameter."""
    pairs = list(zip(net.arrays, other.arrays, strict=True))
    return max(np.abs(a - b).max() for a, b in pairs) / max(np.abs(b).max() for _, b in pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("net", choices=NETS, nargs="?", default="2x16")
    parser.add_argument("--trace", type=int, help="number of a phase whose last warp is shown")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        driver = fake_driver.load(Path(folder))
        runs = run_kernels(driver, folder)
        net = trained(chosen.net, "cuda")
        machine, _ = runs[-1]
        found = phases(machine)
        first, end = step_of([phase.warps[0][-1].instruction.at for phase in found])
        before = began = found[first - 1].end
        print("| phase | cycles | instructions of its last warp | of all | lanes of all |")
        print("| --: | --: | --: | --: | --: |")
        for number, phase in enumerate(found[first:end]):
            last, all_issues = phase.warps[phase.last], [issue for warp in phase.warps for issue in warp]
            share = np.mean([issue.lanes for issue in all_issues])
            print(f"| {number} | {phase.end - before:,} | {len(last)} | {len(all_issues):,} | {share:.0f} |")
            if chosen.trace == number:
                lines = [f"{i.cycle - before:6,} {i.lanes:3} {i.instruction.text}" for i in last]
                print("\n".join(lines), file=sys.stderr)
            before = phase.end
        cycles = before - began
        print(f"\nA step: {cycles:,} cycles, {cycles / CLOCK * 1e6:.1f} us at {CLOCK / 1e9} GHz.")
        print(f"Parameters differ from the CPU's by {apart(net, trained(chosen.net, 'cpu')):.1e} of the largest.")


if __name__ == "__main__":
    main()
