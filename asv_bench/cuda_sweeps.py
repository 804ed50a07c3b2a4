"""Many nets at once on a GPU, each with a rate of its own: fastnn's group, JAX's vmap, torch's batched products.

All nets of a workload start from the same weights and visit the same batches in order. What is counted are the steps of
single nets: so the time of a step is that of all nets, divided by their number. `toy` is as in `cuda_racers`.
"""

import time

import cuda_racers
import numpy as np
import racers
from workers import LeftOut, need
from workloads import WORKLOADS, Workload

COUNTS = (132, 1056)  # a net for each multiprocessor of an H100, and eight
SPREAD = 3.0  # the rates go from the workload's divided by this to it times this


class Many(Workload):
    """Nets of one workload."""

    def __init__(self, nets, work):
        super().__init__(
            work.label, work.sizes, work.hidden, work.loss, work.rows, work.batch, work.optimizer, work.rate, 1
        )
        self.nets, self.name = nets, f"{nets:,} nets of {work.name}"

    def rates(self):
        """The learning rate of each net (nets,), float64."""
        return np.geomspace(self.rate / SPREAD, self.rate * SPREAD, self.nets)


_nets = [work for work in cuda_racers.RACED.values() if work.label in ("2x16", "2x64") and work.batch == 32]
RACED = {work.name: work for work in (Many(count, net) for net in _nets for count in COUNTS)}
TOYS = {work.name: work for work in (Many(3, net) for net in cuda_racers.TOYS.values() if net.label == "2x4")}
WORKLOADS.update(RACED | TOYS)


class _Raced(racers.Racer):
    """What all have in common: `advance(steps)` lets every net make so many steps and gives the seconds."""

    def _checked(self):
        each = self.work.steps_per_epoch
        return self.work.nets * each * -(-cuda_racers.CHECKED_STEPS // each)

    def steps(self, n):
        each = self.work.steps_per_epoch
        steps = each * -(-n // (each * self.work.nets))
        return self.advance(steps), steps * self.work.nets


class Group(_Raced):
    """fastnn: a block a net; the rates go to the device in the measured time, and the losses come back."""

    def __init__(self, workload, threads, toy, precision):
        super().__init__(workload, threads)
        from fastnn.kernels import formulas
        from fastnn.kernels.cuda import sweep

        net, rule, nets = self.work.net(), self.work.rule(), self.work.nets
        start, record = np.tile(net.parameters, (nets, 1)), formulas.named(formulas.RULES, rule.rule)
        self.group = sweep.Group(net.program, start, np.zeros(nets, np.int64), self.work.batch, record)
        labels = self.y.astype(np.float32)
        self.group.bind_data(self.X, labels, labels=True)
        self.group.bind_held_out(self.X, labels, labels=True)
        for i in range(nets):
            self.group.bind_net(i, rule.settings())
        self.epochs = 0

    def advance(self, steps):
        work = self.work
        self.epochs += steps // work.steps_per_epoch
        start = time.perf_counter()
        losses = np.empty((work.nets, self.epochs))
        self.group.bind_steps(np.broadcast_to(work.rates()[:, None], (work.nets, steps)), losses)
        self.group.execute()
        return time.perf_counter() - start

    def loss(self):
        return float(self.group.evaluate().mean())


class Jax(_Raced):
    """jax.vmap of the step over the nets, inside one jitted lax.scan."""

    def __init__(self, workload, threads, toy, precision):
        super().__init__(workload, threads)
        jax, optax = need("jax"), need("optax")
        if not toy and jax.default_backend() != "gpu":
            raise LeftOut(f"jax {jax.__version__} sees no GPU")
        jax.config.update("jax_default_matmul_precision", "highest")
        jnp, work, rule = jax.numpy, self.work, optax.scale_by_adam()
        self.X, self.y = jnp.asarray(self.X), jnp.asarray(self.y)

        def objective(params, X, y):
            last = len(params) - 2
            for i in range(0, last, 2):
                X = jax.nn.relu(X @ params[i].T + params[i + 1])
            out = X @ params[last].T + params[last + 1]
            return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()

        def update(params, state, rate, X, y):
            steps, state = rule.update(jax.grad(objective)(params, X, y), state)
            return [p - rate * step for p, step in zip(params, steps, strict=True)], state

        def many(carry, numbers, X, y):
            def step(carry, i):
                at = (i % work.steps_per_epoch) * work.batch
                part = [jax.lax.dynamic_slice_in_dim(a, at, work.batch) for a in (X, y)]
                return jax.vmap(update, (0, 0, 0, None, None))(*carry, rates, *part), None

            return jax.lax.scan(step, carry, numbers)[0]

        rates, weights = jnp.asarray(work.rates(), jnp.float32), [jnp.asarray(array) for array in work.weights()]
        params = [jnp.tile(array, (work.nets, *[1] * array.ndim)) for array in weights]
        self.jax, self.many, self.carry = jax, jax.jit(many, donate_argnums=0), (params, jax.vmap(rule.init)(params))
        self.objective = jax.jit(jax.vmap(objective, (0, None, None)))
        self.compiled = {}

    def advance(self, steps):
        numbers = self.jax.block_until_ready(self.jax.numpy.arange(steps))
        if steps not in self.compiled:
            self.compiled[steps] = self.many.lower(self.carry, numbers, self.X, self.y).compile()
        start = time.perf_counter()
        self.carry = self.jax.block_until_ready(self.compiled[steps](self.carry, numbers, self.X, self.y))
        return time.perf_counter() - start

    def loss(self):
        return float(self.objective(self.carry[0], self.X, self.y).mean())


class _Adam:
    """Adam over stacked parameters, with a rate for each net; what it keeps stands on the device."""

    def __init__(self, torch, params, rates):
        self.torch, self.params, device = torch, params, params[0].device
        rates = torch.tensor(rates, dtype=torch.float32, device=device)
        self.rates = [rates.view(-1, *[1] * (p.ndim - 1)).expand_as(p).contiguous() for p in params]
        self.state = {p: {"first": torch.zeros_like(p), "second": torch.zeros_like(p)} for p in params}
        self.state[params[0]]["clock"] = self.clock = torch.zeros((), device=device)

    def zero_grad(self, set_to_none):
        for p in self.params:
            p.grad = None

    def step(self):
        torch, params, grads = self.torch, self.params, [p.grad for p in self.params]
        firsts, seconds = ([self.state[p][name] for p in params] for name in ("first", "second"))
        with torch.no_grad():
            self.clock += 1
            torch._foreach_lerp_(firsts, grads, 0.1)
            torch._foreach_mul_(seconds, 0.999)
            torch._foreach_addcmul_(seconds, grads, grads, 0.001)
            roots, steps = torch._foreach_sqrt(seconds), torch._foreach_mul(firsts, self.rates)
            torch._foreach_mul_(roots, (1 - 0.999**self.clock) ** -0.5)
            torch._foreach_add_(roots, 1e-8)
            torch._foreach_div_(steps, roots)
            torch._foreach_mul_(steps, 1 / (1 - 0.9**self.clock))
            torch._foreach_sub_(params, steps)


class Torch(_Raced, cuda_racers.Graph):
    """Products of torch.baddbmm over the nets, an epoch of steps captured by hand in one graph."""

    def make_step(self):
        self.params = [p.expand(self.work.nets, *p.shape).contiguous() for p in self.params]
        super().make_step()

    def make_rule(self):
        return _Adam(self.torch, self.params, self.work.rates())

    def objective(self, params, X, y):
        """The sum of the nets' losses: each then has the gradient of its own."""
        return self.losses(params, X, y).sum()

    def losses(self, params, X, y):
        last, nets = len(params) - 2, len(params[0])
        X = X.expand(nets, *X.shape)
        for i in range(0, last + 1, 2):
            X = self.torch.baddbmm(params[i + 1].unsqueeze(1), X, params[i].transpose(1, 2))
            X = self.hidden(X) if i < last else X
        flat = self.torch.nn.functional.cross_entropy(X.flatten(0, 1), y.repeat(nets), reduction="none")
        return flat.view(nets, -1).mean(1)

    def advance(self, steps):
        self.wait()
        start = time.perf_counter()
        for _ in range(steps // len(self.batches)):
            self.replay()
        self.wait()
        return time.perf_counter() - start

    def loss(self):
        with self.torch.no_grad():
            return float(self.losses(self.params, self.X, self.y).mean())


KINDS = {"fastnn, a group": Group, "jax, vmap": Jax, "torch, batched": Torch}


class Library(cuda_racers.Library):
    """One library in its process, with many nets."""

    kinds = KINDS
