"""Training steps of nets whose inputs are codes: a table of learned vectors each, one class a library, one thread.

Codes are drawn as those of real columns are: few levels are met often, most are rare (Zipf). Every library starts from
the same tables and weights, and visits the same batches in order. torch has one nn.Embedding for all columns, the
faster way: with sparse gradients and SparseAdam for it, or with dense gradients and its fused Adam.
"""

import functools
import time

import numpy as np
from racers import Racer
from workers import need

COLUMNS, HIDDEN, BATCH, STEPS, RATE = 39, 64, 256, 100, 1e-3
EPS = 1e-8


class Table:
    """Columns whose tables have so many levels together, each a vector of `size` numbers."""

    def __init__(self, levels, size, rows=BATCH * STEPS, batch=BATCH):
        self.levels, self.size = levels // COLUMNS, size
        self.rows, self.batch, self.steps_per_epoch = rows, batch, rows // batch
        self.name = f"{COLUMNS} codes, {levels:,} rows x {size}, batch {batch}"

    def data(self):
        """(codes (rows, COLUMNS), targets (rows, 1)); the same in every process."""
        random = np.random.default_rng(1)
        codes = random.zipf(1.15, (self.rows, COLUMNS)) % self.levels
        worth = random.standard_normal((COLUMNS, self.levels))[np.arange(COLUMNS), codes].sum(axis=1)
        return codes, (worth > 0).astype(np.float32)[:, None]

    def weights(self):
        """[table (COLUMNS * levels, size), W1, b1, W2, b2]."""
        random, inputs = np.random.default_rng(2), COLUMNS * self.size
        shapes = (COLUMNS * self.levels, self.size), (HIDDEN, inputs), (1, HIDDEN)
        scales = 0.05, inputs**-0.5, HIDDEN**-0.5
        drawn = (random.standard_normal(shape, np.float32) for shape in shapes)
        table, W1, W2 = (array * np.float32(scale) for array, scale in zip(drawn, scales, strict=True))
        return [table, W1, np.zeros(HIDDEN, np.float32), W2, np.zeros(1, np.float32)]


ROWS = {table.name: table for table in (Table(5_000, 8), Table(1_000_000, 16))}


class Embedded(Racer):
    """The part that all share; a subclass has `make`, `steps` and `loss`."""

    def __init__(self, row, threads):
        self.work, self.threads = ROWS[row], threads
        self.X, self.y = self.work.data()
        self.make()

    def check(self):
        """(loss at the start, loss after a step): in later ones a dense Adam also moves rows that no sample has."""
        before = self.loss()
        self.steps(1)
        return before, self.loss()


class Fastnn(Embedded):
    def make(self):
        from fastnn.kernels import formulas, program, tables
        from fastnn.kernels.state import TrainingState

        work, relu, sigmoid = self.work, formulas.RELU, formulas.SIGMOID
        vectors = tuple(program.Vector(i, work.levels, work.size) for i in range(COLUMNS))
        layers = [program.Dense(n, formulas.ACTIVATIONS[code]) for n, code in ((HIDDEN, relu), (1, sigmoid))]
        loss = formulas.LOSSES[formulas.BINARY_CROSS_ENTROPY]
        net = program.Program(COLUMNS, [program.Embedding(vectors), *layers], loss)
        parameters, (table, *dense) = np.zeros(net.size, np.float32), work.weights()
        views = [view for arrays in net.views(parameters) for view in arrays]
        for view, array in zip(views, [*np.split(table, COLUMNS), *dense], strict=True):
            view[...] = array
        self.X, state = self.X.astype(np.float32), TrainingState(parameters, 0)
        self.plan = self.plan_for(net, parameters, work.batch, tables.TRAIN, state)
        self.judge = self.plan_for(net, parameters, len(self.X), tables.EVALUATE)
        for plan in (self.plan, self.judge):
            plan.bind_data(self.X, self.y)
        adam = dict(beta1=0.9, beta2=0.999, eps=EPS, decoupled=0.0)
        self.plan.bind_rule(formulas.RULES[formulas.ADAM], adam)

    def plan_for(self, net, parameters, batch, command, state=None):
        from fastnn.kernels.cpu import make_plan

        return make_plan(net, parameters, batch, command, self.threads, state)

    def steps(self, n):
        self.plan.bind_steps(np.full(n, RATE), np.zeros(n // self.work.steps_per_epoch + 1))
        start = time.perf_counter()
        self.plan.execute()
        return time.perf_counter() - start, n

    def loss(self):
        self.plan.to_host()
        self.judge.execute()
        return self.judge.loss


class TorchSparse(Embedded):
    """Functions on tensors, batches cut beforehand; the gradient of the table is sparse."""

    sparse, device, adam = True, "cpu", {}  # the last: what more Adam is told

    def make(self):
        self.torch = torch = need("torch")
        torch.set_num_threads(self.threads)
        codes = torch.from_numpy(self.X + np.arange(COLUMNS) * self.work.levels)
        self.X, self.y = codes.to(self.device), torch.from_numpy(self.y).to(self.device)
        self.batches = [
            (X.clone(), y.clone())
            for X, y in zip(codes.split(self.work.batch), self.y.split(self.work.batch), strict=True)
        ]
        self.table, *self.dense = (
            torch.tensor(array, device=self.device).requires_grad_() for array in self.work.weights()
        )
        adam = functools.partial(torch.optim.Adam, lr=RATE, eps=EPS, fused=True, **self.adam)
        if self.sparse:
            self.rules = [torch.optim.SparseAdam([self.table], lr=RATE, eps=EPS), adam(self.dense)]
        else:
            self.rules = [adam([self.table, *self.dense])]
        self.at = 0

    def objective(self, X, y):
        f, (W1, b1, W2, b2) = self.torch.nn.functional, self.dense
        vectors = f.embedding(X, self.table, sparse=self.sparse).flatten(1)
        return f.binary_cross_entropy_with_logits(f.linear(f.linear(vectors, W1, b1).relu_(), W2, b2), y)

    def step(self, X, y):
        for rule in self.rules:
            rule.zero_grad(set_to_none=True)
        self.objective(X, y).backward()
        for rule in self.rules:
            rule.step()

    def steps(self, n):
        start = time.perf_counter()
        for _ in range(n):
            self.step(*self.batches[self.at])
            self.at = (self.at + 1) % len(self.batches)
        return time.perf_counter() - start, n

    def loss(self):
        with self.torch.inference_mode():
            return self.objective(self.X, self.y).item()


class TorchDense(TorchSparse):
    """The gradient of the table is a matrix of its size."""

    sparse = False


EMBEDDERS = {"fastnn": Fastnn, "torch": TorchDense, "torch sparse": TorchSparse}
