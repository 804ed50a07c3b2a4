"""Training steps on a GPU: fastnn's, JAX's in one scan, and torch's eager, compiled with graphs, captured by hand.

Every class starts from the workload's weights and visits its batches in order, which lie on the device. A round is many
steps between two waits for the device. With `toy` all of it runs on the host: fastnn in the simulator, the others
on the CPU, what would be captured as it is.
"""

import gc
import os
import time
from contextlib import contextmanager, nullcontext

import embedding
import racers
from workers import LeftOut, need
from workloads import WORKLOADS, Workload

PRECISIONS = ("float32", "tf32", "bf16")
ROWS, MOST_STEPS = 16_384, 64  # in the data of small batches
CHECKED_STEPS = 8
LARGE_FLOPS, LARGE_STEPS = 1e12, 2  # a CPU needs a second and more for such a step


def _net(hidden, layers, batch, optimizer):
    rate = 1e-2 if optimizer == "sgd" else 1e-3
    steps = max(1, min(ROWS // batch, MOST_STEPS))
    sizes = (*[hidden] * (layers + 1), 10)
    return Workload(f"{layers}x{hidden}", sizes, "relu", "cross_entropy", batch * steps, batch, optimizer, rate, 1)


BATCHES = (32, 512, 8192, 131_072)
_logistic = Workload("logistic", (784, 1), None, "binary_cross_entropy", 10_000, None, "sgd", 0.1, 1)
_nets = [_net(h, n, b, rule) for n, h, rule in ((2, 64, "adam"), (3, 256, "adam"), (4, 1024, "sgd")) for b in BATCHES]
_smallest = _net(16, 2, 32, "adam")  # fits into the shared memory of a block
RACED = {work.name: work for work in (_logistic, _smallest, *_nets)}
_toys = [
    Workload("logistic", (5, 1), None, "binary_cross_entropy", 12, None, "sgd", 0.1, 1),
    Workload("2x4", (4, 4, 4, 3), "relu", "cross_entropy", 12, 4, "adam", 1e-2, 1),
]
TOYS = {work.name: work for work in _toys}
WORKLOADS.update(RACED | TOYS)  # where racers look them up


class _Raced(racers.Racer):
    """What all have in common here."""

    round_seconds = 1.0  # of which what a fit does once is a few percent, where a GPU makes many steps

    def _checked(self):
        each = self.work.steps_per_epoch
        wanted = LARGE_STEPS if self.work.flops() > LARGE_FLOPS else CHECKED_STEPS
        return -(-wanted // each) * each


class Cpu(_Raced, racers.Fastnn):
    """fastnn on all cores."""

    def __init__(self, workload, threads, toy, precision):
        if precision != "float32":
            raise LeftOut(f"no {precision} on the CPU")
        super().__init__(workload, threads)


class Cuda(_Raced, racers.Fastnn):
    """fastnn with device="cuda"; that a fit checks the rows, on the device, is in its time."""

    def __init__(self, workload, threads, toy, precision):
        super().__init__(workload, threads)
        import fastnn

        here = self.net
        self.net = fastnn.Sequential(here.layers, loss=here.loss, device="cuda", precision=precision)
        self.net.build(here.n_features).set_weights(here.get_weights())
        if not toy:
            from numba import cuda

            self.X = cuda.to_device(self.X)


@contextmanager
def _forced(loop):
    os.environ["FASTNN_CUDA_LOOP"] = loop
    try:
        yield
    finally:
        del os.environ["FASTNN_CUDA_LOOP"]


def _by(loop):
    """fastnn training on the GPU by one of its loops, whatever the plan would take."""

    class ByLoop(Cuda):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            from fastnn.kernels import cuda, tables

            net, batch = self.net, self.work.batch or self.work.rows
            try:
                with _forced(loop):
                    cuda.make_plan(net.program, net.parameters, batch, tables.TRAIN, net.state)
            except ValueError as error:
                raise LeftOut(str(error)) from None

        def steps(self, n):
            with _forced(loop):  # the loss is that of all rows, which one block may not hold
                return super().steps(n)

    return ByLoop


class Jax(_Raced, racers.Jax):
    """All steps of a round in one jitted lax.scan, with optax; products as precise as the row says."""

    products = {"float32": "highest", "tf32": "tensorfloat32"}  # by default XLA takes tf32 for float32

    def __init__(self, workload, threads, toy, precision):
        jax = need("jax")
        if not toy and jax.default_backend() != "gpu":
            raise LeftOut(f"jax {jax.__version__} sees no GPU")
        if precision not in self.products:
            raise LeftOut(f"arrays of float32 are not multiplied in {precision}")
        jax.config.update("jax_default_matmul_precision", self.products[precision])
        super().__init__(workload, threads)


class Torch(_Raced, racers.Torch):
    """Eager."""

    def __init__(self, workload, threads, toy, precision):
        torch = need("torch")
        self.toy, self.precision, self.device = toy, precision, "cpu" if toy else "cuda"
        if not toy and not torch.cuda.is_available():
            raise LeftOut(f"torch {torch.__version__} sees no GPU")
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        super().__init__(workload, threads)

    def wait(self):
        if not self.toy:
            self.torch.cuda.synchronize()

    def autocast(self):
        if self.precision != "bf16":
            return nullcontext()
        # a cache of casts would outlive the graph that made them
        return self.torch.autocast(self.device, dtype=self.torch.bfloat16, cache_enabled=False)

    def objective(self, params, X, y):
        with self.autocast():
            return super().objective(params, X, y)


def replay_of(torch, step, batches, params, rules, toy):
    """A function that makes a step with each batch: one graph, captured by hand; `params` and `rules` start anew."""
    start = [p.detach().clone() for p in params]

    def epoch():
        for batch in batches:
            step(*batch)

    if toy:
        return epoch
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for batch in batches[:1] * 3:
            step(*batch)
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph):
        epoch()
    with torch.no_grad():  # warming up has trained
        for p, first in zip(params, start, strict=True):
            p.copy_(first)
        for rule in rules:
            for state in rule.state.values():
                for value in state.values():
                    value.zero_()
    return graph.replay


class Graph(Torch):
    """An epoch of steps, at most MOST_STEPS, captured by hand in one torch.cuda.graph; a replay is an epoch."""

    adam = {"capturable": True}

    def make_step(self):
        super().make_step()
        self.replay = replay_of(self.torch, self.step, self.batches, self.params, [self.rule], self.toy)

    def steps(self, n):
        each = len(self.batches)
        self.step = lambda *batch: self.replay()
        epochs = -(-n // each)
        seconds, _ = super().steps(epochs)
        return seconds, epochs * each


class Compile(Torch):
    """The loss by torch.compile(mode="reduce-overhead"), which makes graphs of it, and a fused optimizer."""

    def make_step(self):
        torch, nn = self.torch, self.torch.nn
        layers = []
        for n_in, n_out in self.work.layers:
            layers += [
                nn.Linear(n_in, n_out),
                {"tanh": nn.Tanh, "relu": nn.ReLU, None: nn.Identity}[self.work.hidden](),
            ]
        module = nn.Sequential(*layers[:-1]).to(self.device)
        with torch.no_grad():
            for p, first in zip(module.parameters(), self.params, strict=True):
                p.copy_(first)
        self.params = list(module.parameters())
        super().make_step()
        settings = {"backend": "eager"} if self.toy else {"mode": "reduce-overhead"}

        @torch.compile(fullgraph=True, dynamic=False, **settings)
        def objective(X, y):
            with self.autocast():
                return self.criterion(module(X), y)

        rule = self.rule

        def step(X, y):
            rule.zero_grad(set_to_none=True)
            objective(X, y).backward()
            rule.step()

        self.step = step


class _OfTable:
    """What nets whose inputs are codes have in common here; they start and train as those of `embedding.py`."""

    def __init__(self, row, threads, toy, precision):
        if precision != "float32":
            raise LeftOut(f"nets for tables are not raced in {precision}")
        self.toy = toy
        super().__init__(row, threads)

    def _checked(self):
        return self.work.steps_per_epoch


class TableCpu(_OfTable, embedding.Fastnn):
    """fastnn on all cores."""


class TableCuda(_OfTable, embedding.Fastnn):
    """fastnn's loop on the GPU, as its plan picks it; the losses come back in the time of the steps."""

    def plan_for(self, net, parameters, batch, command, state=None):
        from fastnn.kernels import cuda

        return cuda.make_plan(net, parameters, batch, command, state)


class TableGraph(_OfTable, embedding.TorchDense):
    """One table for all columns and a fused Adam; an epoch captured by hand in one graph, a replay is an epoch.

    The gradient of the table is dense: a sparse one has a size that a graph cannot know.
    """

    adam = {"capturable": True}

    def make(self):
        torch = need("torch")
        if not self.toy:
            if not torch.cuda.is_available():
                raise LeftOut(f"torch {torch.__version__} sees no GPU")
            self.device = "cuda"
        super().make()
        params = [self.table, *self.dense]
        self.replay = replay_of(torch, self.step, self.batches, params, self.rules, self.toy)

    def wait(self):
        if not self.toy:
            self.torch.cuda.synchronize()

    def steps(self, n):
        each = len(self.batches)
        if n < each:  # the check
            return super().steps(n)
        epochs = -(-n // each)
        self.wait()
        start = time.perf_counter()
        for _ in range(epochs):
            self.replay()
        self.wait()
        return time.perf_counter() - start, epochs * each


TABLE_TOYS = {row.name: row for row in (embedding.Table(5 * embedding.COLUMNS, 2, rows=8, batch=4),)}
TABLES = embedding.ROWS.copy()
embedding.ROWS.update(TABLE_TOYS)  # where racers look them up
OF_TABLES = {"fastnn": TableCuda, "fastnn on the CPU": TableCpu, "torch graph": TableGraph}
LOOPS = {f"fastnn, {loop}": _by(loop) for loop in ("block", "shards", "grid", "graph")}
KINDS = {"fastnn": Cuda, "fastnn on the CPU": Cpu, "jax": Jax}
KINDS |= {"torch": Torch, "torch graph": Graph, "torch.compile": Compile}


class Library:
    """One library in its process: enters a workload, checks, is timed."""

    kinds = KINDS | LOOPS

    def __init__(self, library, threads, toy):
        if not library.startswith("fastnn"):
            need("jax" if library == "jax" else "torch")
        self.kind, self.threads, self.toy, self.racer = self.kinds[library], threads, toy, None
        self.library = library

    def enter(self, workload, precision):
        """None, or why it does not take part."""
        self.racer = None
        gc.collect()  # the arrays of the last one
        try:
            kind = OF_TABLES[self.library] if workload in embedding.ROWS else self.kind
            self.racer = kind(workload, self.threads, self.toy, precision)
        except LeftOut as reason:
            return str(reason)
        return None

    def check(self):
        """(loss before, loss after some steps)."""
        return self.racer.check()

    def prepare(self):
        """Find the length of a round."""
        return self.racer.prepare()

    def round(self):
        """Microseconds a step."""
        return self.racer.round()
