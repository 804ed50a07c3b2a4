"""Training steps, one class a library, each at its best on the CPU.

Every class starts from the workload's weights and visits its batches in order. A step is forward, loss, backward and
update; what a library can prepare once (cut batches, compiled code) is prepared outside the measured time.

A workload that has trained long starts from the weights and Adam's moments that fastnn comes to, so that nobody has to
train for a minute first. What has decayed to zero there is zero for all: the others are spared the denormal numbers
that they would have come to themselves.
"""

import copy
import os
import shutil
import time
import warnings
from functools import partial

from workers import LeftOut, need
from workloads import WORKLOADS

CHECKED_STEPS = 20
ROUND_SECONDS = 0.3


def trained_long(work, epochs):
    """A workload that starts after so many epochs, when units have died and their moments have decayed."""
    work = copy.copy(work)
    work.epochs_before, work.name = epochs, f"{work.name}, trained long"
    return work


LONG = {
    work.name: work
    for work in (trained_long(WORKLOADS["housing 8-64-64-1, batch 32, Adam"], 118),)  # 60,416 steps
}
WORKLOADS.update(LONG)  # where racers look them up


class Racer:
    """The part that all share: a subclass has `steps(n)`, which gives (seconds, steps), and `loss()`.

    To take part in workloads that have trained long, a peer has `go_on(step, weights, first, second)`: it takes over
    what fastnn has come to, weights and Adam's moments as lists of the arrays W1, b1, ...
    """

    round_seconds = ROUND_SECONDS

    def __init__(self, workload, threads):
        self.work, self.threads = WORKLOADS[workload], threads
        self.X, self.y = self.work.data()

    def check(self):
        """(loss at the start, loss after whole epochs of at least CHECKED_STEPS steps)."""
        before = self.loss()
        self.steps(self._checked())
        return before, self.loss()

    def prepare(self):
        """Find the number of steps of a round; gives it."""
        self.count = self._checked()
        for _ in range(3):  # the first calls are slower than the rest
            seconds, steps = self.steps(self.count)
            if seconds > self.round_seconds / 2:
                break
            self.count = max(1, round(self.round_seconds * steps / seconds))
        return self.count

    def round(self):
        """Microseconds a step."""
        seconds, steps = self.steps(self.count)
        return 1e6 * seconds / steps

    def _checked(self):
        each = self.work.steps_per_epoch
        return -(-CHECKED_STEPS // each) * each


class Fastnn(Racer):
    def __init__(self, workload, threads):
        super().__init__(workload, threads)
        self.net, self.rule = self.work.net(), self.work.rule()

    def steps(self, n):
        work = self.work
        epochs = -(-n // work.steps_per_epoch)
        start = time.perf_counter()
        history = self.net.fit(
            self.X,
            self.y,
            optimizer=self.rule,
            epochs=epochs,
            batch_size=work.batch,
            shuffle=False,
            threads=self.threads,
        )
        return time.perf_counter() - start, history.steps

    def loss(self):
        return self.net.evaluate(self.X, self.y)["loss"]

    def train_long(self):
        """What `go_on` of the others takes, after the epochs of a workload that has trained long."""
        self.steps(self.work.epochs_before * self.work.steps_per_epoch)
        state, views = self.net.state, self.net.program.views
        arrays = [[a for each in views(flat) for a in each] for flat in (state.parameters, *state.moments)]
        return state.step, *([array.tolist() for array in each] for each in arrays)

    def one_and_two(self):
        """Microseconds a step on one thread, and on two right after."""
        times = []
        for self.threads in (1, 2):
            times.append(self.round())
        return times


def torch_functions(torch, work):
    """(activation of hidden layers or None, loss) of a workload."""
    f = torch.nn.functional
    losses = {
        "cross_entropy": f.cross_entropy,
        "binary_cross_entropy": f.binary_cross_entropy_with_logits,
        "mse": f.mse_loss,
    }
    return {"tanh": torch.tanh, "relu": torch.relu}.get(work.hidden), losses[work.loss]


class Torch(Racer):
    """Eager, without modules: functions on tensors, batches cut beforehand, a fused optimizer."""

    device, adam = "cpu", {}  # where, and what more its Adam is told

    def __init__(self, workload, threads):
        super().__init__(workload, threads)
        self.torch = torch = need("torch")
        torch.set_num_threads(threads)
        work = self.work
        # copies, for memory as torch aligns it
        self.X, self.y = (torch.tensor(array, device=self.device) for array in (self.X, self.y))
        pairs = zip(self.X.split(work.batch), self.y.split(work.batch), strict=True)
        self.batches = [(X.clone(), y.clone()) for X, y in pairs]
        self.params = [torch.tensor(array, device=self.device) for array in work.weights()]
        self.hidden, self.criterion = torch_functions(torch, work)
        self.at = 0
        self.make_step()

    def make_rule(self):
        """The optimizer."""
        rate, optim = self.work.rate, self.torch.optim
        if self.work.optimizer == "sgd":
            return optim.SGD(self.params, lr=rate, fused=True)
        return optim.Adam(self.params, lr=rate, fused=True, **self.adam)

    def make_step(self):
        """Set `step(X, y)`."""
        for p in self.params:
            p.requires_grad_()
        self.rule = rule = self.make_rule()

        def step(X, y):
            rule.zero_grad(set_to_none=True)
            self.objective(self.params, X, y).backward()
            rule.step()

        self.step = step

    def go_on(self, step, weights, first, second):
        for p, given, m, v in zip(self.params, weights, first, second, strict=True):
            p.data, m, v = map(self.torch.tensor, (given, m, v))
            self.rule.state[p] = {"step": self.torch.tensor(float(step)), "exp_avg": m, "exp_avg_sq": v}

    def wait(self):
        """Wait for what was queued."""

    def objective(self, params, X, y):
        linear, last = self.torch.nn.functional.linear, len(params) - 2
        for i in range(0, last, 2):
            X = self.hidden(linear(X, params[i], params[i + 1]))
        return self.criterion(linear(X, params[last], params[last + 1]), y)

    def steps(self, n):
        batches, count, at, step = self.batches, len(self.batches), self.at, self.step
        self.wait()
        start = time.perf_counter()
        for _ in range(n):
            step(*batches[at])
            at += 1
            if at == count:
                at = 0
        self.wait()
        seconds = time.perf_counter() - start
        self.at = at
        return seconds, n

    def loss(self):
        with self.torch.no_grad():
            return float(self.objective(self.params, self.X, self.y))


class TorchCompile(Torch):
    """The whole step, update too, in one compiled graph: faster than compiling the loss beside an eager optimizer."""

    def make_step(self):
        if not shutil.which(os.environ.get("CXX", "g++")):
            raise LeftOut("torch.compile needs a C++ compiler")
        torch, rate, adam = self.torch, self.work.rate, self.work.optimizer == "adam"
        self.state = state = [[torch.zeros_like(p) for p in self.params] for _ in range(2)] if adam else []
        self.clock = clock = torch.zeros(())

        def step(params, state, clock, X, y):
            gradients, value = torch.func.grad_and_value(self.objective)(params, X, y)
            if not adam:
                for p, g in zip(params, gradients, strict=True):
                    p.sub_(rate * g)
                return value
            clock.add_(1)
            first, second = 1 - 0.9**clock, 1 - 0.999**clock
            for p, g, m, v in zip(params, gradients, *state, strict=True):
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g * g)
                p.sub_(rate * (m / first) / ((v / second).sqrt() + 1e-8))
            return value

        # nothing but the values changes from call to call, so that the checks of arguments can go
        options = {"cpp_wrapper": True, "guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
        compiled, params = torch.compile(step, fullgraph=True, dynamic=False, options=options), self.params
        self.step = lambda X, y: compiled(params, state, clock, X, y)

    def go_on(self, step, weights, first, second):
        self.clock.fill_(step)
        for held, given in zip((self.params, *self.state), (weights, first, second), strict=True):
            for array, values in zip(held, given, strict=True):
                array.copy_(self.torch.tensor(values))

    def steps(self, n):
        with self.torch.no_grad():
            return super().steps(n)


def jax_functions(work):
    """(jax, optimizer of a learning rate, loss of a net, its steps) of a workload."""
    jax, optax = need("jax"), need("optax")
    hidden = {"tanh": jax.numpy.tanh, "relu": jax.nn.relu}.get(work.hidden)

    def objective(params, X, y):
        last = len(params) - 2
        for i in range(0, last, 2):
            X = hidden(X @ params[i].T + params[i + 1])
        out = X @ params[last].T + params[last + 1]
        if work.loss == "cross_entropy":
            return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()
        if work.loss == "binary_cross_entropy":
            return optax.sigmoid_binary_cross_entropy(out, y).mean()
        return ((out - y) ** 2).mean()

    def many(rule, carry, numbers, X, y):
        def step(carry, i):
            params, state = carry
            part = X, y
            if work.batch < work.rows:
                at = (i % work.steps_per_epoch) * work.batch
                part = [jax.lax.dynamic_slice_in_dim(a, at, work.batch) for a in part]
            value, gradient = jax.value_and_grad(objective)(params, *part)
            updates, state = rule.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, carry, numbers)

    return jax, optax.sgd if work.optimizer == "sgd" else optax.adam, objective, many


class Jax(Racer):
    """The whole loop in one compiled lax.scan; parameters and state are donated to it."""

    def __init__(self, workload, threads):
        super().__init__(workload, threads)
        jax, optimizer, objective, many = jax_functions(self.work)
        jnp, rule = jax.numpy, optimizer(self.work.rate)
        self.X, self.y = jnp.asarray(self.X), jnp.asarray(self.y)
        weights = [jnp.array(array) for array in self.work.weights()]
        self.jax, self.compiled, self.done = jax, {}, 0
        self.many, self.objective = jax.jit(partial(many, rule), donate_argnums=0), jax.jit(objective)
        self.carry = weights, rule.init(weights)

    def go_on(self, step, weights, first, second):
        jnp, (_, (moments, *others)) = self.jax.numpy, self.carry
        weights, mu, nu = ([jnp.asarray(a, jnp.float32) for a in arrays] for arrays in (weights, first, second))
        self.carry = weights, (moments._replace(count=jnp.int32(step), mu=mu, nu=nu), *others)

    def steps(self, n):
        numbers = self.jax.numpy.arange(self.done, self.done + n)
        if n not in self.compiled:
            self.compiled[n] = self.many.lower(self.carry, numbers, self.X, self.y).compile()
        run = self.compiled[n]
        self.jax.block_until_ready(numbers)
        start = time.perf_counter()
        self.carry, _ = self.jax.block_until_ready(run(self.carry, numbers, self.X, self.y))
        seconds = time.perf_counter() - start
        self.done = (self.done + n) % self.work.steps_per_epoch
        return seconds, n

    def loss(self):
        return float(self.objective(self.carry[0], self.X, self.y))


class Sklearn(Racer):
    """MLPClassifier or MLPRegressor, many epochs in one call of fit."""

    def __init__(self, workload, threads):
        super().__init__(workload, threads)
        if workload in LONG:
            raise LeftOut("its fit starts with moments of zero")
        networks = need("sklearn.neural_network")
        work = self.work
        kind = networks.MLPRegressor if work.loss == "mse" else networks.MLPClassifier
        self.target = self.y.ravel() if self.y.shape[-1] == 1 else self.y
        self.net = kind(
            hidden_layer_sizes=work.sizes[1:-1],
            activation=work.hidden or "identity",
            solver=work.optimizer,
            alpha=0.0,
            batch_size=work.batch,
            learning_rate_init=work.rate,
            max_iter=1,
            shuffle=False,
            momentum=0.0,
            tol=0.0,
            n_iter_no_change=1 << 30,
            warm_start=True,
        )
        warnings.simplefilter("ignore")  # that it has not converged
        self.net.fit(self.X, self.target)
        weights = work.weights()
        self.net.coefs_ = [W.T.copy() for W in weights[::2]]
        self.net.intercepts_ = [b.copy() for b in weights[1::2]]

    def steps(self, n):
        self.net.max_iter = -(-n // self.work.steps_per_epoch)
        start = time.perf_counter()
        self.net.fit(self.X, self.target)
        return time.perf_counter() - start, self.net.max_iter * self.work.steps_per_epoch

    def loss(self):
        classify = self.work.loss != "mse"
        return self.work.loss_of(self.net.predict_proba(self.X) if classify else self.net.predict(self.X), self.y)


RACERS = {"fastnn": Fastnn, "torch": Torch, "torch.compile": TorchCompile, "jax": Jax, "sklearn": Sklearn}
