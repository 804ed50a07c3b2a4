"""The kernels of the CUDA backend as the compiler leaves them, beside the ceilings that they must keep.

    python tests/cuda_table.py                     # all of them, for sm_80, sm_90 and sm_90a, in float32 and float64
    python tests/cuda_table.py product             # those whose name begins so
    python tests/cuda_table.py > docs/kernels.md   # the page of them, anew

A name stands for a call; the kernels that it launches share its ceilings: registers of a thread, and bytes of shared
memory that a block names itself or is given by the launch.
"""

import importlib
import sys
from unittest import mock

import numpy as np
from cuda_offline import CAPABILITIES, Nowhere, architecture, compiled, count, launched, tools

from fastnn import kernels
from fastnn.kernels import formulas, tables
from fastnn.kernels.program import Bins, Dense, Dropout, Embedding, Missing, OneHot, Plain, Program, Standardize, Vector
from fastnn.kernels.state import TrainingState

DOUBLE = ("DFMA", "DADD", "DMUL")
STACK = ("LDL", "STL")
IN_A_PANEL = 4  # instructions of wgmma
FEW = 16  # multiply-adds without a branch between them: with fewer, a kernel is no product
HEAD = """# What the compiler makes of the CUDA kernels

`python tests/cuda_table.py > docs/kernels.md` made this page, with no GPU: each kernel is compiled as a call launches \
it, by numba-cuda and nvJitLink. Registers of a thread and bytes of shared memory of a block stand beside their \
ceilings, which the tests hold. *Instructions* are those of the whole kernel. *Instructions an FMA* are counted in \
the stretch without a branch that has most multiply-adds: those that it has beside them load operands and find \
addresses. For tensor cores an HMMA counts as one, though it makes hundreds of multiply-adds; HGMMA, \
which wgmma becomes, stand in the same column.
"""


def _arrays(dtype, *shapes):
    return [Nowhere(*shape, dtype=dtype) for shape in shapes]


def activation(name):
    """Both directions of one activation."""

    def call(dtype):
        from fastnn.kernels import cuda

        Z, dA = _arrays(dtype, (500, 12), (500, 12))
        cuda.activation_forward(getattr(kernels, name), 0.1, Z, Z)
        cuda.activation_backward(getattr(kernels, name), 0.1, dA, Z, Z, dA)

    return call


def loss(name):
    """A loss with its delta."""

    def call(dtype):
        from fastnn.kernels import cuda

        targets = 12 // formulas.named(formulas.LOSSES, name.lower()).outputs_per_target
        Z, y, w, dZ, result = _arrays(dtype, (500, 12), (500, targets), (500,), (500, 12), (300,))
        cuda.loss_backward(getattr(kernels, name), 1.0, Z, y, w, dZ, result)

    return call


def update(name, states, *settings):
    """An update rule over aligned vectors."""

    def call(dtype):
        from fastnn.kernels import cuda

        vectors = _arrays(dtype, *[(500,)] * (2 + states))
        getattr(cuda, name)(*vectors, *settings)

    return call


def layer(m, n_in, n_out, name, activation="RELU", precision="float32"):
    """One of the three products of a layer."""

    def call(dtype):
        from fastnn.kernels import cuda

        code = getattr(kernels, activation)
        X, W, b, A, dX = _arrays(dtype, (m, n_in), (n_out, n_in), (n_out,), (m, n_out), (m, n_in))
        (work,) = _arrays(dtype, (max(1, cuda.work_size(m, n_in, n_out, precision)),))
        if name == "dense_forward":
            cuda.dense_forward(X, W, b, code, 0.0, work, A, A, precision=precision)
        elif name == "input_gradient":
            cuda.input_gradient(A, W, code, 0.0, X, X, dX, precision=precision, work=work)
        else:
            cuda.weight_gradient(A, X, work, W, b, precision=precision)

    return call


def product(strides, other=None, **precision):
    """A product of matrices of any strides."""

    def call(dtype):
        from fastnn.kernels import cuda

        A, B, out = (Nowhere(2048, 2048, dtype=dtype, strides=each) for each in (strides, other or strides, strides))
        cuda.matmul(A, B, None, out, **precision)

    return call


def by_tensor_cores():
    """The products of layers in tf32 and bf16, in tiles of both sizes and of every way of fetching."""
    for precision in ("tf32", "bf16"):
        lower = {"precision": precision}
        large, small = (128, 32768), (112, 32768)
        yield f"{precision} forward", (layer(4096, 1024, 1024, "dense_forward", "TANH", **lower), large, None)
        yield f"{precision} forward, small", (layer(64, 64, 64, "dense_forward", **lower), small, None)
        yield f"{precision} input gradient", (layer(4096, 1024, 1024, "input_gradient", "GELU", **lower), large, None)
        yield f"{precision} input gradient, small", (layer(64, 64, 64, "input_gradient", **lower), small, None)
        yield f"{precision} weight gradient", (layer(4096, 4096, 4096, "weight_gradient", **lower), large, None)
        yield f"{precision} weight gradient, long", (layer(100000, 64, 64, "weight_gradient", **lower), small, None)
        single = (128 if precision == "tf32" else 168, 32768)
        yield f"{precision}, any strides", (product((5000, 2), **lower), single, None)
        yield f"{precision}, any strides by aligned", (product((5000, 2), (2048, 1), **lower), single, None)


def on_hopper(call):
    """The same call, on a GPU with wgmma."""

    def made(dtype):
        products = importlib.import_module("fastnn.kernels.cuda.matmul")  # whose name in the package is a function
        with (
            mock.patch.object(products, "has_wgmma", lambda: True),
            mock.patch.object(products, "trusts_wgmma", lambda precision: True),
        ):
            call(dtype)

    return made


def by_wgmma():
    """The same products by Hopper's instruction, and the pass that rounds their operands."""
    for precision in ("tf32", "bf16"):
        for name, activation in (("forward", "TANH"), ("input_gradient", "GELU"), ("weight_gradient", "LINEAR")):
            call = on_hopper(layer(4096, 1024, 1024, name if "_" in name else "dense_forward", activation, precision))
            yield f"wgmma {precision} {name.replace('_', ' ')}", (call, (160, 197696), None)
        yield f"wgmma {precision}, before and after", (call, (64, 20480), None)


def random_numbers(dtype):
    """The shuffle and dropout."""
    from fastnn.kernels import cuda

    (A,) = _arrays(dtype, (500, 12))
    cuda.permutation(1, 2, Nowhere(500, dtype="int64"))
    cuda.dropout(0.5, 1, 2, 3, 0, A, A)


def program(features, *units, activations=("relu", "softmax"), loss="cross_entropy"):
    """A net that standardises and drops its inputs; by names, or by records."""

    def record(records, name):
        return formulas.named(records, name) if isinstance(name, str) else name

    operations = [Standardize(*np.zeros((3, features)))]
    for layer, (width, name) in enumerate(zip(units, activations, strict=True)):
        operations += [Dropout(0.2, layer), Dense(width, record(formulas.ACTIVATIONS, name))]
    return Program(features, operations, record(formulas.LOSSES, loss))


def columns_program():
    """A net for a table, with all kinds of columns."""
    features = Vector(0, 100, 8), OneHot(1, 50), Plain(2), Missing(2), Bins(3, np.arange(5.0))
    operations = [Embedding(features, 16), Dropout(0.2, 0), Dense(16, formulas.named(formulas.ACTIVATIONS, "relu"))]
    operations.append(Dense(2, formulas.named(formulas.ACTIVATIONS, "softmax")))
    return Program(4, operations, formulas.named(formulas.LOSSES, "cross_entropy"))


def queue_training(net, dtype, rule):
    """Launches of a step of a large net, with all that there can be; gives its plan."""
    from fastnn.kernels.cuda import driver, graph

    parameters = np.zeros(net.size, dtype)
    made = driver.Plan(net, parameters, 4096, tables.TRAIN, TrainingState(parameters, 0), loop="graph")
    made.bind_data(np.zeros((8, net.n_features), dtype), np.zeros((8, net.outputs), dtype), shuffle=True)
    made.bind_rule(rule, dict.fromkeys(rule.settings, 0.5), clip_norm=1.0)
    names = "table", "reals", "parameters", "workspace", "X", "Y", "gradient", "counter", *driver.MOMENTS, "constants 0"
    made.memory.update(dict.fromkeys(names, Nowhere(1)))
    made.upload = lambda name, array, stays=False: None
    made.device_program()
    graph.queue_step(made, 0)
    return made


def step(optimizer):
    """What ties the products of a large net together, in a training step with all that there can be."""

    def call(dtype):
        queue_training(program(64, 64, 8), dtype, formulas.RULES[getattr(kernels, optimizer)])

    return call


def columns(dtype):
    """What a table adds to a large net's step, also where l2 acts, and to an update by a gradient that is given."""
    from fastnn.kernels import cuda
    from fastnn.kernels.cuda import graph

    cuda.embedding_sum(Nowhere(500, 3, dtype="int32"), *_arrays(dtype, (100, 8), (500, 8)))
    made = queue_training(columns_program(), dtype, formulas.RULES[kernels.ADAM])
    graph.queue_update(made, 0)
    made.reals[tables.Real.L2] = 0.1
    graph.queue_step(made, 0)


def matrices(dtype):
    """What is done to data before and after a run."""
    from fastnn.kernels import cuda
    from fastnn.kernels.cuda.matrices import copy_rows

    (X,), order = _arrays(dtype, (500, 12)), Nowhere(500, dtype="int64")
    cuda.first_not_finite(X, order)
    for source in ("float32", "float64", "int64", "uint8", "bool"):
        cuda.take_rows(Nowhere(600, 12, dtype=source), order, X)
    copy_rows(X, order, X)


def loop(name, command, net=None, clips=False):
    """The loop, which has more arguments than a call on arrays can show; `clips`: with l2 and clipping."""

    def kernel(dtype):
        from numba.cuda import types

        from fastnn.kernels.cuda import schedule, step

        every = program(8, 8, 8, 8, 2, activations=("relu", "gelu", "tanh", "softmax")) if net is None else net
        rule = kernels.ADAM if command == tables.TRAIN else None
        structure = schedule.structure_of(every, command, rule)
        if rule is not None:
            structure = structure._replace(update=schedule.update_of(every, dtype, name, 1, clips))
        kernel = step.run_of(np.dtype(dtype).type, name, structure, True)
        return [(kernel, (types.int64,) * 11, step.THREADS, schedule.SHARED_BYTES)]

    return kernel


# name: (call, (registers, shared bytes) in float32, the same in float64, or None if there is no such kernel)
KERNELS = {
    "activation linear": (activation("LINEAR"), (24, 0), (24, 0)),
    "activation sigmoid": (activation("SIGMOID"), (24, 0), (24, 0)),
    "activation tanh": (activation("TANH"), (24, 0), (32, 0)),
    "activation relu": (activation("RELU"), (24, 0), (24, 0)),
    "activation leaky_relu": (activation("LEAKY_RELU"), (24, 0), (24, 0)),
    "activation elu": (activation("ELU"), (24, 0), (32, 0)),
    "activation softplus": (activation("SOFTPLUS"), (24, 0), (32, 0)),
    "activation silu": (activation("SILU"), (24, 0), (32, 0)),
    "activation gelu": (activation("GELU"), (24, 0), (32, 0)),
    "activation gelu_tanh": (activation("GELU_TANH"), (24, 0), (32, 0)),
    "activation exp": (activation("EXP"), (24, 0), (24, 0)),
    "activation softmax": (activation("SOFTMAX"), (40, 0), (64, 0)),
    "loss binary_cross_entropy": (loss("BINARY_CROSS_ENTROPY"), (56, 256), (72, 512)),
    "loss cross_entropy": (loss("CROSS_ENTROPY"), (64, 256), (112, 512)),  # four outputs a thread at once
    "loss mse": (loss("MSE"), (56, 256), (72, 512)),
    "loss mae": (loss("MAE"), (56, 256), (72, 512)),
    "loss huber": (loss("HUBER"), (56, 256), (72, 512)),
    "loss quantile": (loss("QUANTILE"), (56, 256), (72, 512)),
    "loss poisson": (loss("POISSON"), (56, 256), (72, 512)),
    "loss gaussian": (loss("GAUSSIAN"), (64, 256), (72, 512)),  # two outputs a thread at once
    "update sgd": (update("sgd_update", 0, 0.1, 0.0), (32, 0), (32, 0)),
    "update momentum": (update("momentum_update", 1, 0.1, 0.9, False, 0.0), (32, 0), (48, 0)),
    "update nesterov": (update("momentum_update", 1, 0.1, 0.9, True, 0.0), (32, 0), (48, 0)),
    "update rmsprop": (update("rmsprop_update", 2, 0.1, 0.9, 1e-8, 0.5, 0.0), (40, 0), (64, 0)),
    "update adam": (update("adam_update", 2, 0.1, 0.9, 0.99, 1e-8, 0.0, 0.0, 1), (48, 0), (64, 0)),
    "random": (random_numbers, (32, 0), (32, 0)),
    "matrices": (matrices, (32, 0), (32, 0)),
    "product forward, tanh": (layer(4096, 1024, 1024, "dense_forward", "TANH"), (255, 69632), (128, 34816)),
    "product forward, gelu": (layer(4096, 1024, 1024, "dense_forward", "GELU"), (255, 69632), (128, 34816)),
    "product forward, middle": (layer(512, 1024, 1024, "dense_forward"), (255, 73728), None),
    "product forward, small": (layer(64, 64, 64, "dense_forward"), (128, 81920), (128, 34816)),
    "product forward, skinny": (layer(4096, 784, 1, "dense_forward", "SIGMOID"), (64, 0), (64, 0)),
    "product forward, eight": (layer(4096, 784, 8, "dense_forward"), (64, 0), (96, 0)),
    "product forward, sixteen": (layer(512, 784, 16, "dense_forward"), (64, 0), (96, 0)),
    "product input gradient": (layer(4096, 1024, 1024, "input_gradient"), (200, 69632), (128, 34816)),
    "product input gradient, middle": (layer(512, 1024, 1024, "input_gradient"), (184, 73728), None),
    "product input gradient, small": (layer(64, 64, 64, "input_gradient"), (128, 81920), (128, 34816)),
    "product weight gradient": (layer(4096, 1024, 1024, "weight_gradient"), (128, 69632), (128, 34816)),
    "product weight gradient, large": (layer(4096, 4096, 4096, "weight_gradient"), (128, 69632), None),
    "product weight gradient, middle": (layer(512, 1024, 1024, "weight_gradient"), (128, 73728), None),
    "product weight gradient, long": (layer(100000, 64, 64, "weight_gradient"), (128, 81920), (128, 34816)),
    "product weight gradient, skinny": (layer(10000, 784, 1, "weight_gradient"), (64, 2064), (96, 4128)),
    "product weight gradient, eight": (layer(10000, 784, 8, "weight_gradient"), (112, 16512), (168, 33024)),
    "product, any strides": (product((5000, 2)), (128, 69632), (168, 34816)),
    **dict(by_tensor_cores()),
    **dict(by_wgmma()),
    "step": (step("ADAM"), (64, 512), (128, 1024)),
    "step by sgd": (step("SGD"), (64, 512), (128, 1024)),
    "step by momentum": (step("MOMENTUM"), (64, 512), (128, 1024)),
    "step by nesterov": (step("NESTEROV"), (64, 512), (128, 1024)),
    "step by rmsprop": (step("RMSPROP"), (64, 512), (128, 1024)),
    "columns": (columns, (80, 128), (80, 256)),
    # a multiprocessor holds two blocks of nets in float32, and one of all others, whose 256 threads may have all
    # registers that there are: 255 each
    "loop of one block": (loop("block", tables.TRAIN), (128, 49152), (255, 49152)),
    "loop of shards": (loop("shards", tables.TRAIN), (255, 49152), (255, 49152)),
    # beside what the launch adds, rows that the warps of a block share
    "loop of a grid": (loop("grid", tables.TRAIN), (255, 53248), (255, 57344)),
    # in float64 those above are the same
    "loop of one block, clipping": (loop("block", tables.TRAIN, clips=True), (128, 49152), None),
    "loop of shards, clipping": (loop("shards", tables.TRAIN, clips=True), (255, 49152), None),
    "loop of a grid, clipping": (loop("grid", tables.TRAIN, clips=True), (255, 53248), None),
    "loop of one block, outputs": (loop("block", tables.PREDICT), (128, 49152), (255, 49152)),
    "loop of a grid, outputs": (loop("grid", tables.PREDICT), (255, 53248), (255, 57344)),
    "loop of one block, gradients": (loop("block", tables.INPUT_GRADIENT), (128, 49152), (255, 49152)),
    "loop of a grid, gradients": (loop("grid", tables.INPUT_GRADIENT), (255, 53248), (255, 57344)),
    "loop of one block, columns": (loop("block", tables.TRAIN, columns_program()), (255, 49152), (255, 49152)),
    "loop of a grid, columns": (loop("grid", tables.TRAIN, columns_program()), (255, 53248), (255, 57344)),
}
# bytes: of a kernel that has the 128 registers with which two blocks fit, and of one to which the compiler gives 96
SPILLED = {("product weight gradient, middle", "float32", (8, 0)): 16}
SPILLED |= {("product weight gradient, eight", "float32", (8, 0)): 16}
STEP = "pick", "scaled", "drop", "clip", "scale", "update", "advance"  # kernels of a step
BESIDE_WGMMA = "twins", "line_sums"
COLUMNS = "forward", "arrange_codes", "collect", "squares", "update_touched", "update_given", "clear", "row_sum"
WIDE = ("update", "product")  # read 128 bits at a time, but for the one that takes any strides


def runs_on(name, capability):
    """Whether kernels of a row are for a compute capability."""
    return not name.startswith("wgmma") or capability == (9, 0, "a")


def launches(names, dtypes=("float32", "float64")):
    """(name, dtype, kernel, types, threads, shared bytes of the launch, registers, shared) of all that is compiled."""
    for name in names:
        call, *ceilings = KERNELS[name]
        for dtype, ceiling in zip(("float32", "float64"), ceilings, strict=True):
            if dtype not in dtypes or ceiling is None:
                continue
            found = call(dtype) if name.startswith("loop") else launched(lambda call=call, dtype=dtype: call(dtype))
            if name.startswith(("step", "columns")):  # the others have rows of their own
                own = COLUMNS if name == "columns" else ("update",) if "by" in name else STEP
                found = [f for f in found if f[0].py_func.__name__ in own]
            elif name.startswith("wgmma"):
                own = BESIDE_WGMMA if "before" in name else ("wgmma_product",)
                found = [f for f in found if f[0].py_func.__name__ in own]
            for each in dict.fromkeys(found):
                yield name, dtype, *each, *ceiling


def rows(names, dtypes=("float32", "float64"), capabilities=CAPABILITIES):
    """(name, dtype, capability, kernel's name, what the compiler made of it, registers, shared) of every kernel."""
    for name, dtype, kernel, types, threads, added, registers, shared in launches(names, dtypes):
        for capability in capabilities:
            if not runs_on(name, capability):
                continue
            made = compiled(kernel, types, threads, capability)
            made.shared += added
            yield name, dtype, capability, kernel.py_func.__name__, made, registers, shared


def main(prefix=""):
    """Print the table."""
    missing = tools()
    if missing:
        sys.exit(missing)
    print(HEAD)
    columns = (
        "registers | shared | stack | spilled | instructions | double | LDG.128 | LDS.128 | HMMA | instructions an FMA"
    )
    print(f"| kernel | dtype | for | {columns} |\n| --- | --- | --- |" + " --: |" * 10)
    for name, dtype, capability, own, made, registers, shared in rows([n for n in KERNELS if n.startswith(prefix)]):
        found, (length, multiplies) = made.instructions, made.densest
        facts = [
            f"{made.registers} of {registers}",
            f"{made.shared} of {shared}",
            made.stack,
            made.spilled,
            sum(found.values()),
            count(found, *DOUBLE),
            found["LDG.E.128"],
            found["LDS.128"],
            count(found, "HMMA", "HGMMA"),
            f"{length / multiplies:.2f}" if multiplies >= FEW else "–",
        ]
        made_for = architecture(capability)
        print(f"| {name}: {own} | {dtype} | {made_for} | " + " | ".join(map(str, facts)) + " |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
