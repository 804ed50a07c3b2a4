"""The public kernels on one core, called from Python, in float32."""

import numpy as np
import products
from workloads import WORKLOADS

from . import Timed

LAYERS = {
    f"{work.batch} x {n_in} to {n_out}": (work.batch, n_in, n_out)
    for work in WORKLOADS.values()
    if work.label in ("digits", "mnist")
    for n_in, n_out in work.layers[:1]
}
ACTIVATIONS = "linear sigmoid tanh relu leaky_relu elu softplus silu gelu gelu_tanh softmax".split()
UPDATES = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw")
ALPHA = 0.01
PARAMETERS = 100_000
ROWS, COLUMNS = 128, 256


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


class Matmul(Timed):
    params = [list(products.ORDERS), [64, 512]]
    param_names = ["order", "n"]

    def make(self, order, n):
        multiply = products.Fastnn().ways(n, order)["fastnn"]
        multiply(1)
        return multiply

    def time_matmul(self, order, n):
        self.ready(1)


def unchecked(*functions):
    """The kernels alone, without the checks of a call from Python, in commits that have these."""
    return [getattr(function, "kernel", function) for function in functions]


class Dense(Timed):
    """A layer with relu."""

    params = [list(LAYERS)]
    param_names = ["layer"]

    def make(self, layer):
        from fastnn.kernels import RELU
        from fastnn.kernels.cpu import dense_backward, dense_forward, work_size

        (dense_forward, dense_backward), (m, n_in, n_out) = unchecked(dense_forward, dense_backward), LAYERS[layer]
        X, W, b, dA = normal(m, n_in), normal(n_out, n_in), normal(n_out), normal(m, n_out)
        work, A, dX, dW, db = (
            np.empty(shape, np.float32) for shape in (work_size(m, n_in, n_out), dA.shape, X.shape, W.shape, b.shape)
        )

        def forward():
            dense_forward(X, W, b, RELU, 0.0, work, A, A)

        def backward():
            dense_backward(dA, A, A, X, W, RELU, 0.0, work, dX, dW, db)

        forward()
        backward()
        return forward, backward

    def time_forward(self, layer):
        self.ready[0]()

    def time_backward(self, layer):
        self.ready[1]()


class Call(Timed):
    """A call from Python with the checks of its contract, on arrays so small that little else is timed."""

    params = ["matmul dense_forward dense_backward activation_forward loss_backward adam_update".split()]
    param_names = ["kernel"]

    def make(self, kernel):
        from fastnn.kernels import MSE, RELU, cpu

        X, W, b, dA, work = normal(4, 8), normal(6, 8), normal(6), normal(4, 6), normal(cpu.work_size(4, 8, 6))
        Z, A, dX, dW, db = (np.empty_like(array) for array in (dA, dA, X, W, b))
        theta, grad, first, second = normal(16), normal(16), np.zeros(16, np.float32), np.zeros(16, np.float32)
        arguments = {
            "matmul": (X, W.T, work, Z),
            "dense_forward": (X, W, b, RELU, 0.0, work, Z, A),
            "dense_backward": (dA, Z, A, X, W, RELU, 0.0, work, dX, dW, db),
            "activation_forward": (RELU, 0.0, dA, A),
            "loss_backward": (MSE, 0.0, dA, dA, np.empty(0, np.float32), Z),
            "adam_update": (theta, grad, first, second, 1e-6, 0.9, 0.999, 1e-8, 0.0, 0.0, 10),
        }[kernel]
        function = getattr(cpu, kernel)
        function(*arguments)
        return function, arguments

    def time_call(self, kernel):
        function, arguments = self.ready
        function(*arguments)


class Activation(Timed):
    """128 rows of 256."""

    params = [ACTIVATIONS]
    param_names = ["activation"]

    def make(self, activation):
        from fastnn import kernels
        from fastnn.kernels.cpu import activation_backward, activation_forward

        code = getattr(kernels, activation.upper(), None)
        if code is None:
            raise NotImplementedError(f"this commit has no {activation}")
        activation_forward, activation_backward = unchecked(activation_forward, activation_backward)
        Z, dA = normal(ROWS, COLUMNS), normal(ROWS, COLUMNS)
        A, dZ = np.empty_like(Z), np.empty_like(Z)

        def forward():
            activation_forward(code, ALPHA, Z, A)

        def backward():
            activation_backward(code, ALPHA, dA, Z, A, dZ)

        forward()
        backward()
        return forward, backward

    def time_forward(self, activation):
        self.ready[0]()

    def time_backward(self, activation):
        self.ready[1]()


class Update(Timed):
    """Of 100,000 parameters."""

    params = [list(UPDATES)]
    param_names = ["rule"]

    def make(self, rule):
        from fastnn.kernels import cpu

        sgd, momentum, rmsprop, adam = unchecked(
            cpu.sgd_update, cpu.momentum_update, cpu.rmsprop_update, cpu.adam_update
        )
        theta, grad = normal(PARAMETERS), normal(PARAMETERS)
        first, second = np.zeros_like(theta), np.zeros_like(theta)
        rate = 1e-6  # the parameters stay what they are, however often it runs

        def decayed(share):
            adam(theta, grad, first, second, rate, 0.9, 0.999, 1e-8, 0.0, share, 10)

        update = {
            "sgd": lambda: sgd(theta, grad, rate, 0.0),
            "momentum": lambda: momentum(theta, grad, first, rate, 0.9, False, 0.0),
            "nesterov": lambda: momentum(theta, grad, first, rate, 0.9, True, 0.0),
            "rmsprop": lambda: rmsprop(theta, grad, second, first, rate, 0.99, 1e-8, 0.0, 0.0),
            "adam": lambda: decayed(0.0),
            "adamw": lambda: decayed(0.01),
        }[rule]
        update()
        return update

    def time_update(self, rule):
        self.ready()
