"""What is timed: nets, their data, their optimizers, and what a step costs at least."""

import numpy as np

# Operations of one exp, tanh or log in float32, at least: a reduction and a polynomial of degree six.
ELEMENTARY_FLOPS = 20
# Operations of an update for each parameter, and the vectors as long as the parameters that it reads and writes:
# parameters, gradient, state.
UPDATE_FLOPS = {"sgd": 2, "adam": 12}
UPDATE_VECTORS = {"sgd": 2, "adam": 4}


class Workload:
    """A net, its data and its optimizer; `cores` is the number of cores on which its target is judged."""

    def __init__(self, label, sizes, hidden, loss, rows, batch, optimizer, rate, cores):
        self.label, self.sizes, self.hidden, self.loss = label, sizes, hidden, loss
        self.rows, self.batch, self.optimizer, self.rate, self.cores = rows, batch or rows, optimizer, rate, cores
        self.net_name = f"{label} {'-'.join(map(str, sizes))}"
        size = f"batch {batch}" if batch else f"full batch of {rows:,}"
        self.name = f"{self.net_name}, {size}, {'SGD' if optimizer == 'sgd' else 'Adam'}"

    @property
    def layers(self):
        """(n_in, n_out) of each layer."""
        return list(zip(self.sizes, self.sizes[1:], strict=False))

    @property
    def steps_per_epoch(self):
        """Whole batches in the rows."""
        return self.rows // self.batch

    def data(self):
        """(X, y), float32, classes as int64; the same in every process."""
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
        return [
            array
            for n_in, n_out in self.layers
            for array in (
                random.standard_normal((n_out, n_in), np.float32) / np.float32(n_in**0.5),
                np.zeros(n_out, np.float32),
            )
        ]

    def dense(self):
        """The layers in fastnn."""
        import fastnn

        output = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}.get(self.loss, "linear")
        return [*(fastnn.Dense(n, self.hidden) for n in self.sizes[1:-1]), fastnn.Dense(self.sizes[-1], output)]

    def net(self, **settings):
        """The net in fastnn, with these weights, and settings such as its device."""
        import fastnn

        net = fastnn.Sequential(self.dense(), loss=self.loss, **settings).build(self.sizes[0])
        net.set_weights(self.weights())
        return net

    def rule(self, rate=None):
        """The optimizer in fastnn, with the learning rate of the workload or another."""
        import fastnn

        kind = fastnn.SGD if self.optimizer == "sgd" else fastnn.Adam
        return kind(self.rate if rate is None else rate)

    def loss_of(self, outputs, y):
        """Mean loss of probabilities, or of numbers for mse, in float64."""
        outputs, y = np.asarray(outputs, np.float64), np.asarray(y)
        if self.loss == "mse":
            return float(np.mean((outputs.reshape(y.shape) - y) ** 2))
        outputs = np.clip(outputs, 1e-12, 1 - 1e-12)
        if self.loss == "cross_entropy":
            return float(-np.log(outputs[np.arange(len(y)), y]).mean())
        outputs = outputs[:, -1:]
        return float(-np.where(y > 0.5, np.log(outputs), np.log1p(-outputs)).mean())

    def parameters(self):
        """Number of parameters."""
        return sum(n_out * (n_in + 1) for n_in, n_out in self.layers)

    def flops(self):
        """Floating-point operations of a step, at least.

        Three products a layer (forward, and the gradients of weights and inputs), without the gradient of the first
        inputs; elementary functions of tanh, of the outputs and of the loss; the update.
        """
        products = 6 * sum(a * b for a, b in self.layers) - 2 * self.sizes[0] * self.sizes[1]
        elementary = sum(self.sizes[1:-1]) if self.hidden == "tanh" else 0
        elementary += {"cross_entropy": self.sizes[-1] + 1, "binary_cross_entropy": 2, "mse": 0}[self.loss]
        update = UPDATE_FLOPS[self.optimizer] * self.parameters()
        return self.batch * (products + ELEMENTARY_FLOPS * elementary) + update

    def data_bytes(self, rows):
        """Bytes of X and y in so many rows."""
        label = 8 if self.loss == "cross_entropy" else 4 * self.sizes[-1]
        return rows * (4 * self.sizes[0] + label)

    def state_bytes(self):
        """Bytes of the parameters, the gradient and the optimizer's state."""
        return 4 * self.parameters() * UPDATE_VECTORS[self.optimizer]


WORKLOADS = {
    work.name: work
    for work in (
        Workload("planar", (2, 4, 1), "tanh", "binary_cross_entropy", 400, None, "sgd", 0.1, 1),
        Workload("digits", (64, 32, 10), "relu", "cross_entropy", 1792, 32, "sgd", 0.01, 1),
        Workload("housing", (8, 64, 64, 1), "relu", "mse", 16_384, 32, "adam", 1e-3, 1),
        Workload("small", (4, 32, 16, 4), "tanh", "mse", 10_000, None, "adam", 1e-3, 2),
        Workload("mnist", (784, 128, 10), "relu", "cross_entropy", 12_800, 128, "adam", 1e-3, 2),
        Workload("mnist", (784, 512, 512, 10), "relu", "cross_entropy", 12_800, 128, "adam", 1e-3, 2),
        Workload("odd", (500, 200, 50, 7), "relu", "cross_entropy", 4000, 100, "adam", 1e-3, 2),
        Workload("wide", (1024, 1024, 1024, 1024, 10), "relu", "cross_entropy", 2560, 256, "sgd", 1e-3, 2),
        Workload("cat logistic", (12288, 1), None, "binary_cross_entropy", 209, None, "sgd", 1e-4, 2),
        Workload("logistic", (28, 1), None, "binary_cross_entropy", 100_000, None, "sgd", 0.1, 2),
        Workload("logistic", (9000, 1), None, "binary_cross_entropy", 300, None, "sgd", 1e-4, 2),
        Workload("cat", (12288, 20, 7, 5, 1), "relu", "binary_cross_entropy", 209, None, "sgd", 1e-3, 2),
    )
}
