"""The race: one training step of fastnn beside what a user would pick instead, on the same data, weights and cores.

    python asv_bench/peers.py                       every workload, one core and two
    python asv_bench/peers.py --only digits --rounds 9

Each library runs in a process of its own, pinned to the same cores; rounds are interleaved, and the median counts.
Every library starts from the same weights, visits the same batches in order, and must reach the same loss before it is
timed. Needs the extra `peers`; a library that is missing is left out, and said so. Linux.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

LIBRARIES = ("fastnn", "torch", "jax", "sklearn")
CHECKED_STEPS = 20
ROUND_SECONDS = 0.3
SAME_LOSS = 1e-2  # relative, after an epoch or 20 steps: float32 runs drift apart


class Workload:
    """A net, its data and its optimizer."""

    def __init__(self, sizes, hidden, loss, rows, batch, optimizer, rate):
        self.sizes, self.hidden, self.loss = sizes, hidden, loss
        self.rows, self.batch, self.optimizer, self.rate = rows, batch or rows, optimizer, rate

    def data(self):
        """(X, y), float32; the same in every process."""
        random = np.random.default_rng(1)
        X = random.standard_normal((self.rows, self.sizes[0]), np.float32)
        if self.loss == "cross_entropy":
            return X, random.integers(0, self.sizes[-1], self.rows)
        if self.loss == "binary_cross_entropy":
            return X, (X[:, 0] > 0).astype(np.float32)[:, None]
        return X, np.tanh(X[:, : self.sizes[-1]]) + np.zeros((self.rows, self.sizes[-1]), np.float32)

    def weights(self):
        """[W1, b1, ...], W as (n_out, n_in)."""
        random = np.random.default_rng(2)
        pairs = zip(self.sizes, self.sizes[1:], strict=False)
        return [
            a
            for i, o in pairs
            for a in (random.standard_normal((o, i), np.float32) / np.float32(i**0.5), np.zeros(o, np.float32))
        ]

    def flops(self):
        """Floating-point operations of the products of a step."""
        sizes = list(zip(self.sizes, self.sizes[1:], strict=False))
        return self.batch * (6 * sum(a * b for a, b in sizes) - 2 * sizes[0][0] * sizes[0][1])


WORKLOADS = {
    "planar 2-4-1 tanh, 400 rows, full batch": Workload(
        (2, 4, 1), "tanh", "binary_cross_entropy", 400, None, "sgd", 0.1
    ),
    "digits 64-32-10, batch 32, SGD": Workload((64, 32, 10), "relu", "cross_entropy", 1792, 32, "sgd", 0.01),
    "housing 8-64-64-1, batch 32, Adam": Workload((8, 64, 64, 1), "relu", "mse", 16384, 32, "adam", 1e-3),
    "4-32-16-4 tanh, 10,000 rows, full batch, Adam": Workload(
        (4, 32, 16, 4), "tanh", "mse", 10_000, None, "adam", 1e-3
    ),
    "mnist 784-128-10, batch 128, Adam": Workload((784, 128, 10), "relu", "cross_entropy", 12_800, 128, "adam", 1e-3),
    "mnist 784-512-512-10, batch 128, Adam": Workload(
        (784, 512, 512, 10), "relu", "cross_entropy", 12_800, 128, "adam", 1e-3
    ),
    "1024 x 3 hidden, batch 256, SGD": Workload(
        (1024, 1024, 1024, 1024, 10), "relu", "cross_entropy", 2560, 256, "sgd", 1e-3
    ),
    "logistic regression 209 x 12288, full batch": Workload(
        (12288, 1), None, "binary_cross_entropy", 209, None, "sgd", 1e-4
    ),
    "logistic regression 100,000 x 28, full batch": Workload(
        (28, 1), None, "binary_cross_entropy", 100_000, None, "sgd", 0.1
    ),
    "12288-20-7-5-1, 209 rows, full batch": Workload(
        (12288, 20, 7, 5, 1), "relu", "binary_cross_entropy", 209, None, "sgd", 1e-3
    ),
}


class _Fastnn:
    def __init__(self, work, threads):
        import fastnn

        self.fastnn, self.work, self.threads = fastnn, work, threads
        self.X, self.y = work.data()
        output = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}.get(work.loss, "linear")
        layers = [fastnn.Dense(n, work.hidden) for n in work.sizes[1:-1]] + [fastnn.Dense(work.sizes[-1], output)]
        self.net = fastnn.Sequential(layers, loss=work.loss).build(work.sizes[0])
        self.net.set_weights(work.weights())

    def steps(self, n):
        """Train for whole epochs, at least n steps; gives (seconds, steps)."""
        work = self.work
        rule = self.fastnn.SGD(work.rate) if work.optimizer == "sgd" else self.fastnn.Adam(work.rate)
        epochs = -(-n // (work.rows // work.batch))
        start = time.perf_counter()
        history = self.net.fit(
            self.X, self.y, optimizer=rule, epochs=epochs, batch_size=work.batch, shuffle=False, threads=self.threads
        )
        return time.perf_counter() - start, history.steps

    def loss(self):
        return self.net.evaluate(self.X, self.y)["loss"]


class _Torch:
    def __init__(self, work, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch, self.work = torch, work
        X, y = work.data()
        self.X, self.y = torch.from_numpy(X), torch.from_numpy(y)
        layers, weights = [], work.weights()
        for i, (a, b) in enumerate(zip(work.sizes, work.sizes[1:], strict=False)):
            layer = torch.nn.Linear(a, b)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(weights[2 * i]))
                layer.bias.copy_(torch.from_numpy(weights[2 * i + 1]))
            layers.append(layer)
            if i < len(work.sizes) - 2:
                layers.append({"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[work.hidden]())
        self.net = torch.nn.Sequential(*layers)
        self.criterion = {
            "cross_entropy": torch.nn.CrossEntropyLoss,
            "binary_cross_entropy": torch.nn.BCEWithLogitsLoss,
            "mse": torch.nn.MSELoss,
        }[work.loss]()
        rule = torch.optim.SGD if work.optimizer == "sgd" else torch.optim.Adam
        self.rule = rule(self.net.parameters(), lr=work.rate, fused=True)

    def steps(self, n):
        work, at = self.work, 0
        start = time.perf_counter()
        for _ in range(n):
            X, y = self.X[at : at + work.batch], self.y[at : at + work.batch]
            self.rule.zero_grad(set_to_none=True)
            self.criterion(self.net(X), y).backward()
            self.rule.step()
            at = (at + work.batch) % work.rows
        return time.perf_counter() - start, n

    def loss(self):
        with self.torch.no_grad():
            return float(self.criterion(self.net(self.X), self.y))


class _Jax:
    def __init__(self, work, threads):
        import jax
        import optax
        from jax import numpy as jnp

        X, y = (jnp.asarray(a) for a in work.data())
        batches = work.rows // work.batch
        rule = optax.sgd(work.rate) if work.optimizer == "sgd" else optax.adam(work.rate)
        weights = work.weights()
        params = [(jnp.asarray(weights[i]), jnp.asarray(weights[i + 1])) for i in range(0, len(weights), 2)]
        hidden = {"tanh": jnp.tanh, "relu": jax.nn.relu}.get(work.hidden)

        def forward(params, X):
            for i, (W, b) in enumerate(params):
                X = X @ W.T + b
                X = hidden(X) if i < len(params) - 1 else X
            return X

        def loss(params, X, y):
            out = forward(params, X)
            if work.loss == "cross_entropy":
                return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()
            if work.loss == "binary_cross_entropy":
                return optax.sigmoid_binary_cross_entropy(out, y).mean()
            return ((out - y) ** 2).mean()

        def step(carry, i):
            params, state = carry
            at = (i % batches) * work.batch
            part = (X, y) if batches == 1 else [jax.lax.dynamic_slice_in_dim(a, at, work.batch) for a in (X, y)]
            value, grad = jax.value_and_grad(loss)(params, *part)
            updates, state = rule.update(grad, state, params)
            return (optax.apply_updates(params, updates), state), value

        self.many = jax.jit(lambda carry, steps: jax.lax.scan(step, carry, steps))
        self.carry, self.jax, self.jnp = (params, rule.init(params)), jax, jnp
        self.value = jax.jit(lambda params: loss(params, X, y))

    def steps(self, n):
        numbers = self.jnp.arange(n)
        if n not in getattr(self, "ready", ()):
            self.jax.block_until_ready(self.many(self.carry, numbers))  # compiles, without training
            self.ready = {n}
        start = time.perf_counter()
        self.carry, _ = self.jax.block_until_ready(self.many(self.carry, numbers))
        return time.perf_counter() - start, n

    def loss(self):
        return float(self.value(self.carry[0]))


class _Sklearn:
    def __init__(self, work, threads):
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        if work.hidden is None:
            raise NotImplementedError("scikit-learn's MLP needs a hidden layer")
        self.X, self.y = work.data()
        self.y = self.y.ravel() if self.y.shape[-1] == 1 else self.y
        kind = MLPRegressor if work.loss == "mse" else MLPClassifier
        self.work = work
        self.net = kind(
            hidden_layer_sizes=work.sizes[1:-1],
            activation=work.hidden,
            solver=work.optimizer,
            alpha=0.0,
            batch_size=work.batch,
            learning_rate_init=work.rate,
            max_iter=1,
            shuffle=False,
            momentum=0.0,
            tol=0.0,
            n_iter_no_change=1 << 30,
        )
        classes = {} if work.loss == "mse" else {"classes": np.unique(self.y)}
        self.net.partial_fit(self.X[: work.batch], self.y[: work.batch], **classes)
        weights = work.weights()
        self.net.coefs_ = [w.T.copy() for w in weights[::2]]
        self.net.intercepts_ = [b.copy() for b in weights[1::2]]
        del self.net._optimizer

    def steps(self, n):
        epochs = -(-n // (self.work.rows // self.work.batch))
        start = time.perf_counter()
        for _ in range(epochs):
            self.net.partial_fit(self.X, self.y)
        return time.perf_counter() - start, epochs * (self.work.rows // self.work.batch)

    def loss(self):
        return None  # its loss is defined otherwise for two outputs and for regression


def work_off(library, name, threads):
    """A racing process: prints its state, then runs a round for each line that it reads."""
    racer = {"fastnn": _Fastnn, "torch": _Torch, "jax": _Jax, "sklearn": _Sklearn}[library]
    try:
        run = racer(WORKLOADS[name], threads)
    except (ImportError, NotImplementedError) as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    steps_per_epoch = WORKLOADS[name].rows // WORKLOADS[name].batch
    checked = -(-CHECKED_STEPS // steps_per_epoch) * steps_per_epoch
    run.steps(checked)
    print(json.dumps({"loss": run.loss()}), flush=True)
    seconds, steps = run.steps(checked)
    steps = max(1, round(ROUND_SECONDS * steps / max(seconds, 1e-9)))
    run.steps(steps)
    print(json.dumps({"ready": steps}), flush=True)
    for _ in sys.stdin:
        seconds, done = run.steps(steps)
        print(json.dumps({"us": 1e6 * seconds / done}), flush=True)


def race(name, threads, rounds, libraries):
    """Median us a step of each library in one workload, as {library: us or the reason why not}."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    environment = os.environ | {
        key: str(threads) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    }
    environment["JAX_PLATFORMS"] = "cpu"
    runs, losses, results = {}, {}, {}
    for library in libraries:
        command = [sys.executable, __file__, "--worker", library, name, str(threads)]
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, cores)), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        first = _read(process)
        if "missing" in first:
            results[library] = first["missing"]
            continue
        losses[library] = first["loss"]
        _read(process)
        runs[library] = process
    reference = losses.get("fastnn")
    for library, loss in losses.items():
        if loss is not None and abs(loss - reference) > SAME_LOSS * abs(reference):
            raise SystemExit(f"{name}: {library} reached the loss {loss}, fastnn {reference}")
    times = {library: [] for library in runs}
    for _ in range(rounds):
        for library, process in runs.items():
            process.stdin.write("\n")
            process.stdin.flush()
            times[library].append(_read(process)["us"])
    for library, process in runs.items():
        process.stdin.close()
        process.wait()
        results[library] = statistics.median(times[library])
    return results


def _read(process):
    line = process.stdout.readline()
    if not line:
        raise SystemExit(process.stderr.read())
    return json.loads(line)


def table(results):
    """The results as a Markdown table."""
    lines = [
        f"| workload | cores | {' | '.join(LIBRARIES)} | best peer / fastnn |",
        "|---" * (len(LIBRARIES) + 3) + "|",
    ]
    for row in results:
        times = [row["us"].get(library) for library in LIBRARIES]
        shown = " | ".join(f"{t:,.1f}" if isinstance(t, float) else "-" for t in times)
        peers = [t for t in times[1:] if isinstance(t, float)]
        ratio = f"{min(peers) / times[0]:.2f}" if peers else "-"
        lines.append(f"| {row['workload']} | {row['cores']} | {shown} | {ratio} |")
    return "\n".join(lines)


def main():
    """Run the race; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="workloads whose names hold this text")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), choices=LIBRARIES)
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work_off(options.worker[0], options.worker[1], int(options.worker[2]))
        return 0
    results = []
    for name in WORKLOADS:
        if options.only in name:
            for cores in options.cores:
                us = race(name, cores, options.rounds, options.libraries)
                results.append({"workload": name, "cores": cores, "us": us})
                print(results[-1], file=sys.stderr, flush=True)
    print(f"us a step, median of {options.rounds} rounds; Python {platform.python_version()}\n")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
