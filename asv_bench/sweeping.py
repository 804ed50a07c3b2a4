"""Sweeps: many nets of a workload that differ in learning rate and starting weights; and a search over folds.

Every class of `SWEEPERS` trains the nets from the weights that fastnn draws by their seeds, and visits the same batches
in order. What a peer can prepare once (stacked weights, cut batches, compiled code) is prepared outside the measured
time, and no peer judges its nets; fastnn's time is that of the whole call: it makes the nets and judges them. Every
class of `SEARCHERS` tries the same candidates on the same folds. One thread each.
"""

import copy
import time
import warnings

import numpy as np
from racers import jax_functions, torch_functions
from workers import need
from workloads import WORKLOADS

SIZES = {"planar": (400, 200), "digits": (1792, 4), "housing": (3200, 2)}  # rows, epochs: about 200 steps
NETS = (64, 1024)
ROWS = {f"sweep {label}, {nets:,} nets": (label, nets) for label in SIZES for nets in NETS}
SHORT = ("sweep digits, 1,024 nets", "sweep housing, 1,024 nets")  # the rows that README shows
HELD_OUT = 64  # rows on which fastnn judges

SEARCH = "search digits, 162 fits"
WIDTHS, RATES, L2 = (16, 32, 64), (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), (1e-5, 1e-4, 1e-3)
BATCH, EPOCHS, FOLDS = 32, 20, 3


class Sweeper:
    """The part that all share: a subclass has `train()`, and `trained()`, which also gives the weights of each net."""

    def __init__(self, label, nets):
        self.work = copy.copy(next(work for work in WORKLOADS.values() if work.label == label))
        self.work.rows, self.epochs = SIZES[label]
        self.X, self.y = self.work.data()
        self.nets, self.rates = nets, np.logspace(-4, -1, nets)
        self.steps = self.epochs * self.work.steps_per_epoch

    def net(self, seed):
        """One of the nets, as fastnn draws it."""
        import fastnn

        return fastnn.Sequential(self.work.dense(), loss=self.work.loss, seed=seed).build(self.work.sizes[0])

    def at_start(self):
        """[W1, b1, ...] of each net."""
        return [self.net(seed).get_weights() for seed in range(self.nets)]

    def stacked(self):
        """[W1, b1, ...] of all nets, each with the nets as first dimension."""
        return [np.stack(arrays) for arrays in zip(*self.at_start(), strict=True)]

    def check(self):
        """(loss at the start, loss at the end) of each net, as fastnn computes them."""
        return list(zip(self.losses(self.at_start()), self.losses(self.trained()), strict=True))

    def losses(self, weights):
        net = self.net(0)
        for arrays in weights:
            net.set_weights(arrays)
            yield net.evaluate(self.X, self.y, threads=1)["loss"]

    def round(self):
        """Microseconds a step of a net."""
        start = time.perf_counter()
        self.train()
        return 1e6 * (time.perf_counter() - start) / (self.nets * self.steps)


class Fastnn(Sweeper):
    threads = 1

    def sweep(self):
        import fastnn

        return fastnn.Sweep(
            self.work.dense(),
            loss=self.work.loss,
            optimizer=lambda seed: self.work.rule(self.rates[seed]),
            batch_size=self.work.batch,
            seed=range(self.nets),
        )

    def train(self, keep=32):
        return self.sweep().fit(
            self.X,
            self.y,
            epochs=self.epochs,
            shuffle=False,
            validation_data=(self.X[:HELD_OUT], self.y[:HELD_OUT]),
            threads=self.threads,
            keep=keep,
        )

    def trained(self):
        return [trial.nets[0].get_weights() for trial in self.train(keep=self.nets).trials]

    def one_and_two(self):
        """Microseconds a step of a net on one thread, and on two right after."""
        times = []
        for self.threads in (1, 2):
            times.append(self.round())
        return times


class FastnnLoop(Sweeper):
    """A fit of each net, one after the other."""

    def train(self):
        return [self.fitted(seed) for seed in range(self.nets)]

    def fitted(self, seed):
        net = self.net(seed)
        net.fit(
            self.X,
            self.y,
            optimizer=self.work.rule(self.rates[seed]),
            epochs=self.epochs,
            batch_size=self.work.batch,
            shuffle=False,
            threads=1,
        )
        net.evaluate(self.X[:HELD_OUT], self.y[:HELD_OUT], threads=1)
        return net

    def trained(self):
        return [net.get_weights() for net in self.train()]


class Torch(Sweeper):
    """Eager, all nets in one product a layer: activations (nets, rows, units), and W as (n_in, n_out).

    With W as fastnn has it, (n_out, n_in), a step took up to 1.5 times as long.
    """

    def __init__(self, label, nets):
        super().__init__(label, nets)
        self.torch = torch = need("torch")
        torch.set_num_threads(1)
        work = self.work
        self.hidden, self.criterion = torch_functions(torch, work)
        at_start = [torch.tensor(array) for array in self.stacked()]
        self.start = [p.mT.contiguous() if p.ndim == 3 else p[:, None] for p in at_start]
        self.rate = torch.tensor(self.rates, dtype=torch.float32)[:, None, None]
        X, y = torch.tensor(self.X), torch.tensor(self.y)
        self.batches = [
            (Xs.expand(nets, -1, -1), ys.repeat(nets, *[1] * (y.ndim - 1)))
            for Xs, ys in zip(X.split(work.batch), y.split(work.batch), strict=True)
        ]

    def train(self):
        params = [p.clone().requires_grad_() for p in self.start]
        update = self.descent if self.work.optimizer == "sgd" else self.adam(params)
        for _ in range(self.epochs):
            for X, y in self.batches:
                gradients = self.torch.autograd.grad(self.objective(params, X, y), params)
                with self.torch.no_grad():
                    update(params, gradients)
        return params

    def objective(self, params, X, y):
        """The sum over nets of their losses, so that each gradient is that of a net alone."""
        last = len(params) - 2
        for i in range(0, last, 2):
            X = self.hidden(self.torch.baddbmm(params[i + 1], X, params[i]))
        out = self.torch.baddbmm(params[last + 1], X, params[last])
        return self.nets * self.criterion(out.flatten(0, 1), y)

    def descent(self, params, gradients):
        for p, g in zip(params, gradients, strict=True):
            p.addcmul_(g, self.rate, value=-1)

    def adam(self, params):
        """The fused rule at a rate of 1 on zeros, which gives the step; each net then takes its rate of it."""
        steps = [self.torch.zeros_like(p) for p in params]
        rule = self.torch.optim.Adam(steps, lr=1.0, fused=True)

        def update(params, gradients):
            for step, g in zip(steps, gradients, strict=True):
                step.grad = g
            rule.step()
            for p, step in zip(params, steps, strict=True):
                p.addcmul_(step, self.rate)
                step.zero_()

        return update

    def trained(self):
        arrays = [(p.mT if i % 2 == 0 else p[:, 0]).detach().numpy() for i, p in enumerate(self.train())]
        return list(zip(*arrays, strict=True))


class Jax(Sweeper):
    """The steps of a net as a lax.scan, vmap over nets, all in one compiled call."""

    def __init__(self, label, nets):
        super().__init__(label, nets)
        self.jax, optimizer, _, many = jax_functions(self.work)
        jnp = self.jax.numpy

        def trained(params, rate, X, y):
            rule = optimizer(rate)
            return many(rule, (params, rule.init(params)), jnp.arange(self.steps), X, y)[0][0]

        weights = [jnp.asarray(array) for array in self.stacked()]
        self.arguments = weights, *map(jnp.asarray, (self.rates.astype(np.float32), self.X, self.y))
        self.compiled = self.jax.jit(self.jax.vmap(trained, (0, 0, None, None))).lower(*self.arguments).compile()

    def train(self):
        return self.jax.block_until_ready(self.compiled(*self.arguments))

    def trained(self):
        return list(zip(*(np.asarray(array) for array in self.train()), strict=True))


class Searcher:
    """The part that all share: a subclass has `best()`, which gives the best score and the epochs of all candidates."""

    def __init__(self):
        X, y = need("sklearn.datasets").load_digits(return_X_y=True)
        self.X, self.y = (X / 16).astype(np.float32), y
        folds = need("sklearn.model_selection").StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        self.folds = list(folds.split(X, y))

    def prepare(self):
        """Compile what there is to compile."""

    def round(self):
        """Seconds, best mean accuracy of a candidate, share of the epochs that a full search makes."""
        start = time.perf_counter()
        score, epochs = self.best()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "score": score, "share": epochs / (EPOCHS * len(WIDTHS) * len(RATES) * len(L2))}


class FastnnSearch(Searcher):
    halving = None

    def best(self, epochs=None):
        import fastnn

        sweep = fastnn.Sweep(
            lambda width: [fastnn.Dense(width, "relu", kernel_initializer="he_normal"), fastnn.Dense(10, "softmax")],
            width=WIDTHS,
            optimizer=fastnn.Adam,
            learning_rate=RATES,
            l2=L2,
            batch_size=BATCH,
        )
        how = dict(cv=self.folds, halving=self.halving, refit=False, threads=1)
        result = sweep.fit(self.X, self.y, epochs=epochs or EPOCHS, **how)
        return result.best.score, sum(trial.epochs for trial in result.trials)

    def prepare(self):
        self.best(epochs=1)


class FastnnHalving(FastnnSearch):
    halving = 3


class SklearnSearch(Searcher):
    """GridSearchCV over MLPClassifier, whose alpha is divided by the rows of a batch."""

    def best(self):
        warnings.simplefilter("ignore")  # that it has not converged
        net = need("sklearn.neural_network").MLPClassifier(
            batch_size=BATCH, max_iter=EPOCHS, n_iter_no_change=1 << 30, random_state=0
        )
        grid = {
            "hidden_layer_sizes": [(width,) for width in WIDTHS],
            "learning_rate_init": RATES,
            "alpha": [BATCH * l2 for l2 in L2],
        }
        search = need("sklearn.model_selection").GridSearchCV(net, grid, cv=self.folds, refit=False)
        search.fit(self.X, self.y)
        return float(search.best_score_), EPOCHS * len(search.cv_results_["params"])


SWEEPERS = {"fastnn": Fastnn, "fastnn loop": FastnnLoop, "torch": Torch, "jax": Jax}
SEARCHERS = {"fastnn": FastnnSearch, "fastnn halving": FastnnHalving, "sklearn": SklearnSearch}
