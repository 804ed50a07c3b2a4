"""Nets that begin with the columns of a table, built as programs: against the reference, and against torch."""

import numpy as np
import pytest
import reference
import reference_random
from arrays import Placed, blank, normal
from numba import njit
from reference_tables import TableNet
from tolerance import assert_close

from fastnn.kernels import cpu, formulas, tables
from fastnn.kernels.cpu import apply_rows, link, make_plan
from fastnn.kernels.cpu.sweep import Sweep
from fastnn.kernels.program import Bins, Dense, Dropout, Embedding, Missing, OneHot, Plain, Program, Vector
from fastnn.kernels.state import TrainingState
from fastnn.kernels.sweep import Task

VECTORS = Vector(0, 7, 3), Vector(2, 60, 20), Vector(1, 5, 1)
ONE_HOT = OneHot(1, 5), OneHot(2, 60)
NUMBERS = Plain(3), Missing(3), Bins(4, np.array([-1.0, -0.2, 0.3, 1.5])), Plain(4)
KINDS = {"all": NUMBERS + ONE_HOT + VECTORS, "vectors": VECTORS, "one-hot": ONE_HOT, "numbers": NUMBERS}
LEVELS = 7, 5, 60
FEATURES = 5
RULES = {  # the rule, its settings, weight decay; and the reference's
    "sgd": ("sgd", {}, 0.1, dict(kind="sgd", decay=0.1)),
    "momentum": ("momentum", dict(momentum=0.9), 0.0, dict(kind="momentum")),
    "adagrad": ("adagrad", dict(eps=1e-10, rate_decay=0.1), 0.0, dict(kind="adagrad", eps=1e-10, rate_decay=0.1)),
    "adam": ("adam", dict(beta1=0.9, beta2=0.999, eps=1e-8, decoupled=0.0), 0.0, dict(kind="adam")),
    "adam, no eps": (
        "adam",
        dict(beta1=0.9, beta2=0.999, eps=1e-20, decoupled=0.0),
        0.0,
        dict(kind="adam", eps=1e-20),
    ),
    "adamw": ("adam", dict(beta1=0.9, beta2=0.999, eps=1e-8, decoupled=0.1), 0.0, dict(kind="adamw", decay=0.1)),
}
RATE = 0.05


def program_of(kind="all", units=5, hidden="tanh", rate=0.0, loss="mse"):
    """A program with these features, its activations."""
    features = KINDS[kind] if isinstance(kind, str) else kind
    names = (hidden, "sigmoid" if loss == "binary_cross_entropy" else "linear")
    layers = [Dense(n, formulas.named(formulas.ACTIVATIONS, name)) for n, name in zip((units, 1), names, strict=True)]
    added = units if any(isinstance(one, OneHot) for one in features) else 0
    dropout = [Dropout(rate, 0)] if rate else []
    operations = [Embedding(features, added), *dropout, *layers]
    return Program(FEATURES, operations, formulas.named(formulas.LOSSES, loss)), names


def data(m=41, dtype="float64", seed=0):
    """Rows of codes, some of them none, and of numbers with gaps; targets; weights."""
    rng = np.random.default_rng(seed)
    X = np.stack([*(rng.zipf(1.5, m) % n for n in LEVELS), *rng.normal(size=(2, m))], axis=1)
    X[rng.random(m) < 0.2, 3] = np.nan
    X[rng.random(m) < 0.2, 4] = np.inf
    X[:6, 0] = np.nan, -1.0, 1e30, 2.5, 7.0, -np.inf
    X[:, 3:][~np.isfinite(X[:, 3:]) & ~np.isnan(X[:, 3:])] = 3.0  # the products take no infinity
    return X.astype(dtype), rng.random((m, 1)).astype(dtype), rng.integers(0, 3, m).astype(dtype)


def parameters(program, dtype="float64", seed=1):
    return normal(seed, program.size, scale=0.4, dtype=dtype) * program_mask(program)


def program_mask(program):
    """1 for parameters, 0 for the gaps between them."""
    mask = np.zeros(program.size, np.int8)
    for part in program.slices:
        mask[part] = 1
    return mask


def run(program, theta, command, X, y=None, w=None, threads=1, batch=None):
    """A plan with its rows bound, executed."""
    plan = make_plan(program, theta, batch or len(X), command, threads)
    plan.bind_data(X, y, w)
    if command == tables.PREDICT:
        plan.bind_output(np.empty((len(X), 1), theta.dtype))
    plan.execute()
    return plan


def gradient_of(program, theta, X, y, w=None, threads=1):
    return run(program, theta, tables.GRADIENT, X, y, w, threads).gradient.copy()


class Training:
    """A program in training: its plan, its state, and the reference beside it."""

    def __init__(self, program, names, rule, theta, batch, threads=1, l2=0.0, loss="mse", **clips):
        self.program, self.batch = program, batch
        kind, settings, decay, twin = RULES[rule]
        self.state = TrainingState(theta, 3)
        self.plan = make_plan(program, theta, batch, tables.TRAIN, threads, self.state)
        self.plan.bind_rule(formulas.named(formulas.RULES, kind), settings, decay, l2, **clips)
        self.twin = TableNet(program, names, loss, l2)
        self.optimizer = reference.Optimizer(**twin, rate=RATE, **clips)
        self.weights = self.twin.arrays(program, theta)

    def run(self, X, y, w, epochs, shuffle=False):
        """Train; gives the losses of the epochs."""
        self.plan.bind_data(X, y, w, shuffle=shuffle)
        losses = np.zeros(epochs)
        self.plan.bind_steps(np.full(epochs * -(-len(X) // self.batch), RATE), losses)
        self.plan.execute()
        assert not self.plan.diverged
        return losses

    def expected(self, X, y, w, epochs, mask=None):
        """What the reference makes of it: the losses, with the weights in `weights`."""
        X, losses = np.asarray(X, np.float64), np.zeros(epochs)
        for epoch in range(epochs):
            mass = 0.0
            for rows in reference.in_order(len(X), self.batch):
                here = w[rows] if w is not None else np.ones(len(rows))
                if here.sum() == 0:
                    continue
                masks = None if mask is None else mask(epoch, rows)
                loss = self.twin.objective(self.weights, X[rows], y[rows], here, masks)
                self.weights = self.twin.step(self.weights, self.optimizer, X[rows], y[rows], here, masks)
                losses[epoch] += loss * here.sum()
                mass += here.sum()
            losses[epoch] /= mass
        return losses

    def check(self, losses, right):
        """Compare parameters, moments and losses."""
        dtype = self.state.parameters.dtype
        found = self.twin.arrays(self.program, self.state.parameters)
        for i, (array, expected) in enumerate(zip(found, self.weights, strict=True)):
            assert_close(array, expected, "training", dtype, f"array {i}")
        for moment, states in zip(self.state.moments, (self.optimizer.one, self.optimizer.two), strict=False):
            for array, expected in zip(self.twin.arrays(self.program, moment), states, strict=True):
                assert_close(array, expected, "training", dtype, "moment")
        assert_close(losses, right, "training", dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("units", [1, 5, 67])
def test_the_loss_and_its_gradient(kind, units, dtype):
    program, names = program_of(kind, units)
    X, y, w = data(dtype=dtype)
    theta = parameters(program, dtype)
    twin = TableNet(program, names, "mse")
    weights = twin.arrays(program, theta)
    plan = run(program, theta, tables.GRADIENT, X, y, w)
    assert plan.loss == pytest.approx(twin.objective(weights, X, y, w), rel=1e-12 if dtype == "float64" else 1e-5)
    gradient = plan.gradient
    for found, expected in zip(
        program.views(gradient), _nested(program, twin.gradients(weights, X, y, w)), strict=True
    ):
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, "sum")
    assert run(program, theta, tables.EVALUATE, X, y, w).loss == pytest.approx(plan.loss, rel=1e-6)


def _nested(program, arrays):
    arrays = iter(arrays)
    return [[next(arrays) for _ in views] for views in program.views(np.zeros(program.size))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_central_differences(kind):
    program, _ = program_of(kind, 4)
    X, y, w = data(23)
    theta, step = parameters(program), 1e-6
    gradient = gradient_of(program, theta, X, y, w)
    plan = make_plan(program, theta, len(X), tables.EVALUATE, 1)
    plan.bind_data(X, y, w)
    differences = np.zeros(program.size)
    for i in np.flatnonzero(program_mask(program)):
        kept, losses = theta[i], []
        for theta[i] in (kept + step, kept - step):
            plan.execute()
            losses.append(plan.loss)
        theta[i] = kept
        differences[i] = (losses[0] - losses[1]) / (2 * step)
    assert_close(gradient, differences, "difference")


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_of_many_and_of_few_rows(kind, dtype):
    program, names = program_of(kind, 21, loss="binary_cross_entropy")
    theta = parameters(program, dtype)
    X, *_ = data(53, dtype)
    twin = TableNet(program, names, "binary_cross_entropy")
    expected, few = twin.predict(twin.arrays(program, theta), X), np.empty((len(X), 1), dtype)
    assert_close(run(program, theta, tables.PREDICT, X).kept["OUT"], expected, "sum")
    assert apply_rows(link(program, np.dtype(dtype)).table, program.alphas, theta, X, few) == 0
    assert_close(few, expected, "sum")
    wide = np.asfortranarray(X)
    assert apply_rows(link(program, np.dtype(dtype)).table, program.alphas, theta, wide, few) == 0
    assert_close(few, expected, "sum")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["all", "one-hot"])
def test_a_step_updates_the_rows_that_its_batch_touches(rule, kind, dtype):
    program, names = program_of(kind)
    X, y, w = data(50, dtype)
    w[16:32] = 0  # a batch that is no step
    training = Training(program, names, rule, parameters(program, dtype), 16)
    start = training.state.parameters.copy()
    losses = training.run(X, y, w, 3)
    training.check(losses, training.expected(X, y, w, 3))
    untouched = [~np.isin(np.arange(60), X[w > 0, 2])]
    assert untouched[0].sum() > 10
    for one, table, before in zip(
        training.twin.tables, program.views(training.state.parameters)[0], program.views(start)[0], strict=True
    ):
        if one.levels == 60:
            assert np.array_equal(table[untouched[0]], before[untouched[0]])


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize(
    "options",
    [
        dict(l2=0.03),
        dict(clip_norm=0.05),
        dict(clip_value=0.004),
        dict(l2=0.03, clip_norm=0.05, clip_value=0.01),
    ],
    ids=str,
)
def test_l2_and_clipping(rule, options):
    program, names = program_of()
    X, y, w = data(50)
    training = Training(program, names, rule, parameters(program), 16, **options)
    training.check(training.run(X, y, w, 2), training.expected(X, y, w, 2))


@pytest.mark.parametrize("kind", ["all", "vectors", "numbers"])
def test_dropout_between(kind, dtype):
    program, names = program_of(kind, rate=0.4)
    X, y, _ = data(50, dtype)
    width = program.widths[1]

    def mask(epoch, rows):
        return reference_random.dropout_mask(0.4, 3, epoch, 0, 0, len(X), width)[rows]

    training = Training(program, names, "momentum", parameters(program, dtype), 16)
    losses = training.run(X, y, None, 2)
    training.check(losses, training.expected(X, y, None, 2, mask))


WAYS = {  # units, rows, batch: by shards, and by parts of the dense parameters
    "one shard": (5, 40, 16),
    "shards": (60, 1500, 700),
    "parts": (1200, 300, 170),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, dict(l2=0.01, clip_norm=0.5, clip_value=0.3)], ids=["plain", "clipped"])
def test_the_same_bits_on_any_number_of_threads(way, options):
    units, m, batch = WAYS[way]
    program, names = program_of(units=units, rate=0.2, hidden="relu")
    X, y, w = data(m, "float32")
    results = []
    for threads in (1, 2, 3):
        training = Training(program, names, "adam", parameters(program, "float32"), batch, threads, **options)
        plan = training.plan
        assert plan["BY_PARTS"] == (way == "parts") and (plan["SHARDS"] > 1) == (way != "one shard")
        losses = training.run(X, y, w, 2, shuffle=True)
        gradient = gradient_of(program, training.state.parameters, X[:batch], y[:batch], w[:batch], threads)
        results.append([training.state.parameters, *training.state.moments, losses, gradient])
    for arrays in zip(*results, strict=True):
        assert np.array_equal(arrays[0], arrays[1]) and np.array_equal(arrays[0], arrays[2])


@pytest.mark.parametrize("way", WAYS)
def test_large_batches_are_the_references(way):
    units, m, batch = WAYS[way]
    program, names = program_of(units=units)
    X, y, w = data(m)
    training = Training(program, names, "adagrad", 0.3 * parameters(program), batch, 2)
    training.check(training.run(X, y, w, 1), training.expected(X, y, w, 1))


@pytest.mark.parametrize("clips", [{}, dict(clip_value=0.01, clip_norm=0.02)], ids=["plain", "clipped"])
@pytest.mark.parametrize("units, m", [(5, 40), (60, 700), (1200, 170)])
def test_a_gradient_and_its_update_are_a_step_bit_for_bit(units, m, clips):
    program, names = program_of(units=units)
    X, y, w = data(m, "float32")
    whole = Training(program, names, "adam", parameters(program, "float32"), m, **clips)
    whole.run(X, y, w, 3)
    state = TrainingState(parameters(program, "float32"), 3)
    plan = make_plan(program, state.parameters, 1, tables.APPLY, 1, state)
    kind, settings, decay, _ = RULES["adam"]
    for _ in range(3):
        plan.bind_gradient(gradient_of(program, state.parameters, X, y, w, 2))
        plan.bind_rule(formulas.named(formulas.RULES, kind), settings, decay, **clips)
        plan.bind_steps(np.full(1, RATE))
        plan.execute()
    assert np.array_equal(state.parameters, whole.state.parameters)
    for one, other in zip(state.moments, whole.state.moments, strict=True):
        assert np.array_equal(one, other)


def test_l2_reaches_all_rows_of_a_given_gradient():
    program, names = program_of()
    training = Training(program, names, "sgd", parameters(program), 16, l2=0.1)
    state = TrainingState(parameters(program), 3)
    plan = make_plan(program, state.parameters, 1, tables.APPLY, 1, state)
    kind, settings, decay, _ = RULES["sgd"]
    plan.bind_gradient(np.zeros(program.size))
    plan.bind_rule(formulas.named(formulas.RULES, kind), settings, decay, l2=0.1)
    plan.bind_steps(np.full(1, RATE))
    plan.execute()
    twin = training.twin
    zeros = twin.arrays(program, np.zeros(program.size))
    decays = [True] * len(twin.tables) + [True, False] * 2
    grads = [0.1 * array if each else zero for array, zero, each in zip(training.weights, zeros, decays, strict=True)]
    expected = twin.update(training.weights, training.optimizer, grads)
    for one, other in zip(twin.arrays(program, state.parameters), expected, strict=True):
        assert_close(one, other, "training")


HOSTILE = np.nan, -1.0, -0.5, 1e30, 2.5, 1e9, 60.0, 2.0**31, 2.0**63, np.inf, -np.inf


def test_what_is_no_code_counts_as_code_0(dtype):
    program, names = program_of("all")
    values = np.array(HOSTILE, dtype)
    X, clean = np.zeros((len(values), FEATURES), dtype), np.zeros((len(values), FEATURES), dtype)
    X[:, :3] = values[:, None]
    y, results = np.linspace(0, 1, len(values), dtype=dtype)[:, None], []
    for rows in (X, clean):
        # a page of NaN on either side: what is read there shows, what is written there is found
        canvas = np.full(program.size + 2 * 4096, np.nan, dtype)
        theta = canvas[4096:-4096]
        theta[:] = parameters(program, dtype)
        few = np.empty((len(rows), 1), dtype)
        assert apply_rows(link(program, np.dtype(dtype)).table, program.alphas, theta, rows, few) == 0
        training = Training(program, names, "adam", theta, 4)
        training.run(rows, y, None, 2)
        outputs = run(program, theta, tables.PREDICT, rows).kept["OUT"]
        results.append([few, theta.copy(), outputs, gradient_of(program, theta, rows, y)])
        assert np.isnan(canvas[:4096]).all() and np.isnan(canvas[-4096:]).all()
    for one, other in zip(*results, strict=True):
        assert np.isfinite(one).all() and np.array_equal(one, other)


def test_rows_are_found_among_many_levels():
    """More levels than slots: codes that share a slot are told apart."""
    levels, m = 1300, 300
    program, names = program_of((Vector(0, levels, 2),))
    rng, (X, y, _) = np.random.default_rng(0), data(m)
    # neighbours, multiples of one number, and repetitions of these
    X[:, 0] = rng.permutation(np.concatenate([np.arange(100), 13 * np.arange(97), 13 * rng.integers(0, 97, m - 197)]))
    theta = 0.1 * parameters(program)
    plan = run(program, theta, tables.GRADIENT, X, y)
    assert levels > 1 << plan["SLOT_BITS"] > m
    twin = TableNet(program, names, "mse")
    gradient = plan.gradient.copy()
    assert_close(program.views(gradient)[0][0], twin.gradients(twin.arrays(program, theta), X, y)[0], "sum")
    plan.execute()  # every slot is empty again
    assert np.array_equal(plan.gradient, gradient)


def test_a_sweep_has_the_bits_of_single_runs():
    X, y, w = data(90, "float32")
    rates, tasks, right = np.full(1, RATE), [], []
    for kind, units, batch in (("all", 40, 16), ("one-hot", 5, 90), ("vectors", 70, 33)):
        program, names = program_of(kind, units)
        right.append(Training(program, names, "adam", parameters(program, "float32"), batch))
        losses = right[-1].run(X, y, w, 3)
        plan = make_plan(program, parameters(program, "float32"), batch, tables.TRAIN, 1)
        plan.bind_data(X, y, w)
        task = Task(plan, TrainingState(parameters(program, "float32"), 3), np.zeros(3))
        rule, settings, decay, _ = RULES["adam"]
        task.bind_rule(formulas.named(formulas.RULES, rule), settings, decay, 0.0, None, None)
        task.bind_epochs(3, rates, True)
        tasks.append((task, losses))
    sweep = Sweep([task for task, _ in tasks], 2)
    sweep.start()
    while not sweep.wait():
        pass
    sweep.finish()
    for (task, losses), single in zip(tasks, right, strict=True):
        assert np.array_equal(task.state.parameters, single.state.parameters)
        assert np.array_equal(task.losses, losses)


def test_the_memory_of_a_step_does_not_grow_with_the_table():
    sizes = []
    for levels in (1000, 1_000_000):
        program, _ = program_of((Vector(0, levels, 16),))
        theta = np.zeros(program.size, np.float32)
        plan = make_plan(program, theta, 256, tables.TRAIN, 1, TrainingState(theta, 0))
        sizes.append(sum(array.nbytes for array in plan.kept.values() if isinstance(array, np.ndarray)))
    assert sizes[1] < sizes[0] + 100_000


def test_as_torch_trains_sparse_embeddings():
    torch = pytest.importorskip("torch")
    m, batch, (X, y, _) = 120, 24, data(120)
    program, names = program_of((Vector(1, 5, 6), Vector(2, 60, 4)))
    training = Training(program, names, "adam, no eps", parameters(program), batch)
    arrays = [torch.tensor(array) for array in training.weights]
    embeddings = [torch.nn.Embedding.from_pretrained(table, freeze=False, sparse=True) for table in arrays[:2]]
    dense = [array.requires_grad_() for array in arrays[2:]]
    # SparseAdam adds eps before it corrects the second moment, Adam after
    rules = [torch.optim.SparseAdam([e.weight for e in embeddings], lr=RATE, eps=1e-20)]
    rules.append(torch.optim.Adam(dense, lr=RATE, eps=1e-20))
    codes, target = torch.from_numpy(X[:, 1:3].astype(np.int64)), torch.from_numpy(y)
    for _ in range(3):
        for at in range(0, m, batch):
            rows = slice(at, at + batch)
            inputs = torch.cat([e(codes[rows, i]) for i, e in enumerate(embeddings)], 1)
            outputs = torch.tanh(inputs @ dense[0].T + dense[1]) @ dense[2].T + dense[3]
            for rule in rules:
                rule.zero_grad()
            ((outputs - target[rows]) ** 2).mean().backward()
            for rule in rules:
                rule.step()
    training.run(X, y, None, 3)
    expected = [e.weight for e in embeddings] + dense
    for array, tensor in zip(training.twin.arrays(program, training.state.parameters), expected, strict=True):
        assert_close(array, tensor.detach().numpy(), "torch")


def test_public_kernels(dtype):
    rng = np.random.default_rng(0)
    for m, levels, size, layouts in ((1, 1, 1, "CCC"), (37, 9, 19, ("sliced", "F", "reversed")), (150, 400, 33, "CCC")):
        codes = rng.zipf(1.2, (m, 3)).astype(np.int32) - 2
        codes[: m // 9] = 2**31 - 1
        table = Placed(normal(1, levels, size, dtype=dtype), dtype, layouts[0])
        out, sums = blank((m, size), dtype, layouts[1]), blank((m, size), dtype, layouts[2])
        cpu.embedding_gather(codes[:, 0], table.array, out.array)
        cpu.embedding_sum(codes, table.array, sums.array)
        assert np.array_equal(out.array, reference.embedding_gather(codes[:, 0], table.array).astype(dtype))
        assert_close(sums.array, reference.embedding_sum(codes, table.array), "sum")
        delta = Placed(normal(2, m, size, dtype=dtype), dtype, layouts[1])
        for work in (0, m, m + 1, 4 * m + 3):
            rows, gradient = np.full(2 * m, -7, np.int32)[::2], blank((m, size), dtype, layouts[2])
            found = cpu.embedding_gradient(
                codes[:, 0], delta.array, levels, np.ones(work, np.int32), rows, gradient.array
            )
            whole = reference.embedding_gradient(codes[:, 0], delta.array, levels)
            assert sorted(rows[:found]) == sorted(np.flatnonzero(whole.any(axis=1))) and (rows[found:] == -7).all()
            assert_close(gradient.array[:found], whole[rows[:found]], "sum")
            assert np.isnan(gradient.array[found:]).all()
            gradient.assert_guarded()
        for placed in (table, delta):
            placed.assert_unchanged()
        for placed in (out, sums):
            placed.assert_guarded()


def test_public_kernels_of_a_table_without_rows(dtype):
    out, codes = np.ones((2, 3), dtype), np.zeros((2, 4), np.int32)
    for kernel, named in ((cpu.embedding_gather, codes[:, 0]), (cpu.embedding_sum, codes)):
        kernel(named, np.empty((0, 3), dtype), out)
        assert not out.any()


@njit
def _lazy_step(codes, table, first, second, delta, work, rows, sums, step):
    out = np.empty_like(delta)
    cpu.embedding_gather(codes, table, out)
    found = cpu.embedding_gradient(codes, delta, len(table), work, rows, sums)
    for i in range(found):
        row = rows[i]
        cpu.adam_update(table[row], sums[i], first[row], second[row], RATE, 0.9, 0.999, 1e-8, 0.0, 0.0, step)
    return out


def test_public_kernels_make_a_lazy_step_in_compiled_code():
    rng = np.random.default_rng(0)
    codes, delta = rng.integers(0, 9, 20).astype(np.int32), rng.normal(size=(20, 4))
    table, first, second = normal(1, 12, 4), np.zeros((12, 4)), np.zeros((12, 4))
    start, work, rows = table.copy(), np.empty(80, np.int32), np.empty(20, np.int32)
    out = _lazy_step(codes, table, first, second, delta, work, rows, np.empty((20, 4)), 1)
    assert np.array_equal(out, start[codes])
    whole = reference.embedding_gradient(codes, delta, 12)
    expected, *_ = reference.adam(
        start, whole, np.zeros((12, 4)), np.zeros((12, 4)), RATE, 0.9, 0.999, 1e-8, 0.0, 0.0, 1
    )
    touched = np.isin(np.arange(12), codes)
    assert_close(table, np.where(touched[:, None], expected, start), "pointwise")
