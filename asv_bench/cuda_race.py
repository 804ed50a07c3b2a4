"""fastnn on an NVIDIA GPU, beside PyTorch on the same one: products, training steps, the cost of a launch.

    python asv_bench/cuda_race.py --json asv_bench/results/cuda.json      # some minutes
    NUMBA_ENABLE_CUDASIM=1 python asv_bench/cuda_race.py --toy            # does it run? no GPU, no PyTorch, no figures

It prints Markdown. Torch trains in strict float32, from the same weights, on the same batches; every runner must reach
the same loss. Times are medians over turns, the runners one after another in each.
"""

import argparse
import json
import statistics
import sys
import time

import numpy as np

import fastnn

PEAK = 67e12  # float32 operations a second of an H200, by its datasheet
SECONDS = 0.4  # that a turn takes about
TURNS = 3
AGREE = 1e-3  # of the losses, relative
RATE = 0.05
FEATURES, CLASSES = 64, 10
NETS = {"2x64": (64, 64), "3x256": (256, 256, 256), "4x1024": (1024,) * 4}
BATCHES = (32, 512, 8192, 131072)
SIDES = (256, 512, 1024, 2048, 4096, 8192)


def rows_and_labels(rows, features, classes):
    random = np.random.default_rng(0)
    X = random.standard_normal((rows, features), np.float32)
    return X, (X @ random.standard_normal((features, classes), np.float32)).argmax(axis=1)


class Ours:
    """fastnn on a device."""

    def __init__(self, device, hidden, X, y, classes, weights):
        layers = [fastnn.Dense(units, "relu") for units in hidden]
        self.net = fastnn.Sequential([*layers, fastnn.Dense(classes, "softmax")], device=device)
        self.net.build(X.shape[1])
        if weights:
            self.net.set_weights(weights)
        self.X, self.y = X, y

    def steps(self, count, batch):
        """Make steps; (seconds, last loss)."""
        epochs = max(1, count * batch // len(self.X))
        record = self.net.fit(
            self.X, self.y, optimizer=fastnn.SGD(RATE), epochs=epochs, batch_size=batch, shuffle=False
        )
        return record.seconds / record.steps, float(record.loss[-1])


class Torch:
    """PyTorch, eager, compiled, or in a graph captured by hand; the batches go round as fastnn's do."""

    def __init__(self, how, hidden, X, y, classes, weights):
        import torch

        self.torch, sizes = torch, (X.shape[1], *hidden, classes)
        layers = []
        for n_in, n_out in zip(sizes, sizes[1:], strict=False):
            layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
        self.net = torch.nn.Sequential(*layers[:-1]).cuda()
        with torch.no_grad():
            for parameter, value in zip(self.net.parameters(), weights, strict=True):
                parameter.copy_(torch.from_numpy(value))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=RATE)
        self.X, self.y = torch.from_numpy(X).cuda(), torch.from_numpy(y).cuda()
        self.how, self.graph = how, None
        self.loss_of = torch.nn.functional.cross_entropy
        self.run = torch.compile(self._step, mode="reduce-overhead") if how == "compile" else self._step

    def _step(self, x, y):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of(self.net(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _capture(self, batch):
        torch = self.torch
        self.x, self.t = self.X[:batch].clone(), self.y[:batch].clone()
        kept = [p.detach().clone() for p in self.net.parameters()]
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                self._step(self.x, self.t)
        side.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.last = self._step(self.x, self.t)
        with torch.no_grad():
            for parameter, value in zip(self.net.parameters(), kept, strict=True):
                parameter.copy_(value)

    def steps(self, count, batch):
        """Make steps; (seconds, mean loss of the last epoch)."""
        torch, places = self.torch, range(0, len(self.X) - batch + 1, batch)
        if self.how == "graph" and self.graph is None:
            self._capture(batch)
        epochs = max(1, count // len(places))
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(epochs):
            losses = []
            for at in places:
                if self.how == "graph":
                    self.x.copy_(self.X[at : at + batch])
                    self.t.copy_(self.y[at : at + batch])
                    self.graph.replay()
                    losses.append(self.last.clone())
                else:
                    losses.append(self.run(self.X[at : at + batch], self.y[at : at + batch]).clone())
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        return seconds / (epochs * len(places)), float(torch.stack(losses).mean())


def race(make, batch, toy):
    """{runner: microseconds a step}; raises where losses differ. `make` gives the runners by name."""
    runners = make()
    first = {name: runner.steps(1, batch) for name, runner in runners.items()}
    losses = [loss for _, loss in first.values()]
    if max(losses) - min(losses) > AGREE * abs(losses[0]):
        raise SystemExit(f"the losses differ after an epoch: {dict(zip(first, losses, strict=True))}")
    if toy:
        return {}
    # the first epoch compiled, too: the pace by which a turn's steps are counted comes from the second
    counts = {name: max(1, int(SECONDS / max(r.steps(1, batch)[0], 1e-7))) for name, r in runners.items()}
    times = {name: [] for name in runners}
    for _ in range(TURNS):
        for name, runner in runners.items():
            times[name].append(1e6 * runner.steps(counts[name], batch)[0])
    return {name: statistics.median(values) for name, values in times.items()}


def training(toy):
    """A row for each net and batch."""
    cases = [(f"{name}, batch {batch:,}", NETS[name], FEATURES, CLASSES, 4 * batch, batch) for name in NETS
             for batch in BATCHES]  # fmt: skip
    cases.insert(0, ("logistic 784, 10,000 rows", (), 784, 2, 10000, 10000))
    if toy:
        cases = [("toy", (5,), 4, 3, 24, 12)]
    for name, hidden, features, classes, rows, batch in cases:
        X, y = rows_and_labels(rows, features, classes)

        def make(hidden=hidden, classes=classes, X=X, y=y):
            ours = {"fastnn": Ours("cuda", hidden, X, y, classes, None)}
            weights = ours["fastnn"].net.get_weights()
            ours["fastnn, CPU"] = Ours("cpu", hidden, X, y, classes, weights)
            if toy:
                return ours
            ways = {"torch, graph": "graph", "torch.compile": "compile", "torch": "eager"}
            return ours | {label: Torch(how, hidden, X, y, classes, weights) for label, how in ways.items()}

        yield {"net": name} | race(make, batch, toy)


def seconds_of(call, synchronize):
    """Median seconds of a call, many of them queued in a row."""
    call()
    synchronize()
    count, times = 1, []
    while True:
        start = time.perf_counter()
        for _ in range(count):
            call()
        synchronize()
        spent = time.perf_counter() - start
        if spent > SECONDS / 4:
            times.append(spent / count)
        else:
            count *= 2
        if len(times) == TURNS:
            return statistics.median(times)


def products():
    """A row for each side: operations a second of ours and of cuBLAS, in strict float32."""
    import torch

    from fastnn.kernels import cuda

    for side in SIDES:
        A, B = torch.randn(side, side, device="cuda"), torch.randn(side, side, device="cuda")
        out = torch.empty(side, side, device="cuda")
        ours = seconds_of(lambda A=A, B=B, out=out: cuda.matmul(A, B, None, out), torch.cuda.synchronize)
        error = torch.linalg.norm(out.double() - A.double() @ B.double()) / torch.linalg.norm(A.double() @ B.double())
        theirs = seconds_of(lambda A=A, B=B, out=out: torch.matmul(A, B, out=out), torch.cuda.synchronize)
        flops = 2 * side**3
        yield {
            "side": side,
            "fastnn, TFLOP/s": flops / ours / 1e12,
            "cuBLAS, TFLOP/s": flops / theirs / 1e12,
            "% of cuBLAS": 100 * theirs / ours,
            "% of datasheet": 100 * flops / ours / PEAK,
            "error": float(error),
        }


def launches():
    """Microseconds of the host for a small kernel."""
    import torch

    from fastnn.kernels import RELU, cuda

    Z = torch.zeros(1, 1, device="cuda")
    for name, call in (
        ("fastnn, activation_forward", lambda: cuda.activation_forward(RELU, 0.0, Z, Z)),
        ("torch, relu_", lambda: torch.relu_(Z)),
    ):
        yield {"call": name, "µs": 1e6 * seconds_of(call, torch.cuda.synchronize)}


def markdown(rows):
    """A table of dicts."""
    rows = list(rows)
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "| --- |" + " --: |" * (len(names) - 1)]
    for row in rows:
        cells = [f"{row[n]:.3g}" if isinstance(row[n], float) else str(row[n]) for n in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, without PyTorch, no figures")
    arguments = parser.parse_args()
    if arguments.toy:
        list(training(True))
        print("losses agree")
        return
    import torch

    if not torch.cuda.is_available():
        sys.exit("no GPU that PyTorch can use")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    results = {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "CUDA": torch.version.cuda,
        "versions": dict(fastnn.environment.facts()),
        "products": list(products()),
        "training, µs a step": list(training(False)),
        "launches": list(launches()),
    }
    for name in ("products", "training, µs a step", "launches"):
        print(f"\n{name}\n\n{markdown(results[name])}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1, default=str)


if __name__ == "__main__":
    main()
