"""Slow, obvious float64 NumPy twins of every kernel and of a whole training run.

Nothing here is clever: each function is the textbook formula, written for a reader, and judges both backends.
Inputs of any dtype are taken as float64: a float32 kernel is measured by the exact value at its inputs.
Rows are samples: X (m, n_in), W (n_out, n_in), b (n_out,), Z and A (m, n_out).
"""

import math

import numpy as np
from reference_random import dropout_mask

ACTIVATIONS = (
    "linear",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "softplus",
    "silu",
    "gelu",
    "gelu_tanh",
    "exp",
)
# gaussian, which has two outputs a target, has tests of its own
LOSSES = ("binary_cross_entropy", "cross_entropy", "mse", "mae", "huber", "quantile", "poisson")
# the outputs that a loss is fused with: it is written in what goes into them
FUSED = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax", "poisson": "exp"}
# what `param` is when the caller does not say: alpha of the first two, delta of huber
DEFAULT_PARAM = {"leaky_relu": 0.01, "elu": 1.0, "huber": 1.0, "quantile": 0.5}
# derivative is no function of the output, so Z must be kept apart from A
NEEDS_Z = ("silu", "gelu", "gelu_tanh")

_ROOT_2_PI = math.sqrt(2.0 / math.pi)


def _f64(*arrays):
    out = [np.asarray(a, dtype=np.float64) for a in arrays]
    return out[0] if len(out) == 1 else out


def rounded(values, precision):
    """The nearest numbers of 11 bits, ties away from zero ("tf32"), or of 8, ties to even ("bf16")."""
    fraction, exponent = np.frexp(_f64(values))
    if precision == "tf32":
        return np.ldexp(np.copysign(np.floor(np.abs(fraction) * 2.0**11 + 0.5), fraction), exponent - 11)
    return np.ldexp(np.rint(fraction * 2.0**8), exponent - 8)


def sigmoid(z):
    """1 / (1 + e^-z), without overflow on either side."""
    z = _f64(z)
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def softplus(z):
    """log(1 + e^z), without overflow."""
    z = _f64(z)
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def _exp(z):
    with np.errstate(over="ignore"):
        return np.exp(z)


def _normal_cdf(z):
    """0.5 erfc(-z / sqrt 2): accurate in the left tail too."""
    return 0.5 * np.vectorize(math.erfc, otypes=[np.float64])(-z / math.sqrt(2.0))


def softmax(z):
    """Softmax over the last axis."""
    z = _f64(z)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_sum_exp(z):
    """log(sum_j e^z_j) over the last axis, kept as a column."""
    z = _f64(z)
    top = z.max(axis=-1, keepdims=True)
    return top + np.log(np.exp(z - top).sum(axis=-1, keepdims=True))


def activation(name, z, param=0.0):
    """A = f(Z)."""
    z = _f64(z)
    if name == "linear":
        return z.copy()
    if name == "sigmoid":
        return sigmoid(z)
    if name == "tanh":
        return np.tanh(z)
    if name == "relu":
        return np.where(z <= 0, 0.0, z)
    if name == "leaky_relu":
        return np.where(z > 0, z, param * z)
    if name == "elu":
        return np.where(z > 0, z, param * np.expm1(np.minimum(z, 0.0)))
    if name == "softplus":
        return softplus(z)
    if name == "silu":
        return z * sigmoid(z)
    if name == "gelu":
        return z * _normal_cdf(z)
    if name == "gelu_tanh":
        # 0.5 (1 + tanh u) = sigmoid(2 u): the same function, accurate in the left tail
        return z * sigmoid(2.0 * _ROOT_2_PI * (z + 0.044715 * z**3))
    if name == "softmax":
        return softmax(z)
    if name == "exp":
        return _exp(z)
    raise ValueError(name)


def activation_derivative(name, z, param=0.0):
    """f'(Z), elementwise; at a kink, torch's choice. Softmax has no such thing: see `activation_backward`."""
    z = _f64(z)
    if name == "linear":
        return np.ones_like(z)
    if name == "sigmoid":
        return sigmoid(z) * sigmoid(-z)
    if name == "tanh":
        return 1.0 - np.tanh(z) ** 2
    if name == "relu":
        return np.where(z > 0, 1.0, 0.0)
    if name == "leaky_relu":
        return np.where(z > 0, 1.0, param)
    if name == "elu":
        return np.where(z > 0, 1.0, param * np.exp(np.minimum(z, 0.0)))
    if name == "softplus":
        return sigmoid(z)
    if name == "silu":
        return sigmoid(z) * (1.0 + z * sigmoid(-z))
    if name == "gelu":
        return _normal_cdf(z) + z * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    if name == "gelu_tanh":
        s = sigmoid(2.0 * _ROOT_2_PI * (z + 0.044715 * z**3))
        return s + z * s * (1.0 - s) * 2.0 * _ROOT_2_PI * (1.0 + 3 * 0.044715 * z * z)
    if name == "exp":
        return _exp(z)
    raise ValueError(name)


def activation_backward(name, dA, z, param=0.0):
    """dZ from dA."""
    dA = _f64(dA)
    if name == "softmax":
        a = softmax(z)
        return a * (dA - (dA * a).sum(axis=-1, keepdims=True))
    return dA * activation_derivative(name, z, param)


def targets(name, y, k):
    """y as an (m, k) float64 array; class indices, (m,) or (m, 1), become one-hot rows for cross_entropy."""
    y = _f64(y)
    if name == "cross_entropy" and (y.ndim == 1 or (y.shape[1] == 1 and k >= 2)):
        return np.eye(k)[y.ravel().astype(int)]
    return y.reshape(-1, k)


def sample_losses(name, z, y, param=1.0):
    """The loss of each sample, (m,)."""
    z = _f64(z)
    if name == "gaussian":
        mean, log_variance = np.split(z, 2, axis=1)
        error = mean - _f64(y).reshape(mean.shape)
        return (0.5 * (log_variance + error**2 / np.exp(log_variance))).mean(axis=1)
    y = targets(name, y, z.shape[1])
    if name == "binary_cross_entropy":
        return (softplus(z) - y * z).mean(axis=1)
    if name == "cross_entropy":
        return (y * (log_sum_exp(z) - z)).sum(axis=1)
    d = z - y
    if name == "mse":
        return (d * d).mean(axis=1)
    if name == "mae":
        return np.abs(d).mean(axis=1)
    if name == "huber":
        return np.where(np.abs(d) <= param, 0.5 * d * d, param * (np.abs(d) - 0.5 * param)).mean(axis=1)
    if name == "quantile":
        return np.maximum(-param * d, (1.0 - param) * d).mean(axis=1)
    if name == "poisson":
        return (np.exp(z) - y * z).mean(axis=1)
    raise ValueError(name)


def loss_forward(name, z, y, w=None, param=1.0):
    """Weighted mean loss, sum(w l) / sum(w)."""
    losses = sample_losses(name, z, y, param)
    w = np.ones(len(losses)) if w is None or len(w) == 0 else _f64(w)
    return float((w * losses).sum() / w.sum())


def loss_backward(name, z, y, w=None, param=1.0):
    """Gradient of the weighted mean loss with respect to Z."""
    z = _f64(z)
    m, k = z.shape
    w = np.ones(m) if w is None or len(w) == 0 else _f64(w)
    if name == "gaussian":
        mean, log_variance = np.split(z, 2, axis=1)
        error, variance = mean - _f64(y).reshape(mean.shape), np.exp(log_variance)
        each = np.hstack([error / variance, 0.5 * (1.0 - error**2 / variance)]) / (k // 2)
        return each * (w / w.sum())[:, None]
    y = targets(name, y, k)
    d = z - y
    if name == "binary_cross_entropy":
        each = (sigmoid(z) - y) / k
    elif name == "cross_entropy":
        each = y.sum(axis=1, keepdims=True) * softmax(z) - y
    elif name == "mse":
        each = 2.0 * d / k
    elif name == "mae":
        each = np.sign(d) / k
    elif name == "huber":
        each = np.clip(d, -param, param) / k
    elif name == "quantile":
        each = np.where(d > 0, 1.0 - param, np.where(d < 0, -param, d)) / k
    elif name == "poisson":
        each = (np.exp(z) - y) / k
    else:
        raise ValueError(name)
    return each * (w / w.sum())[:, None]


def dense_forward(X, W, b, name, param=0.0):
    """Z = X W^T + b and A = f(Z)."""
    X, W, b = _f64(X, W, b)
    Z = X @ W.T + b
    return Z, activation(name, Z, param)


def dense_backward(dA, Z, X, W, name, param=0.0):
    """dZ, dX, dW and db of one layer."""
    X, W = _f64(X, W)
    dZ = activation_backward(name, dA, Z, param)
    return dZ, dZ @ W, dZ.T @ X, dZ.sum(axis=0)


def _rows_named(codes, levels):
    codes = np.asarray(codes)
    return np.where((codes >= 0) & (codes < levels), codes, 0)


def embedding_gather(codes, table):
    """The rows of a table that codes name."""
    table = _f64(table)
    return table[_rows_named(codes, len(table))]


def embedding_sum(codes, table):
    """The sum of the rows that the codes of each sample name."""
    return embedding_gather(codes, table).sum(axis=1)


def embedding_gradient(codes, dOut, levels):
    """Gradient of the whole table, (levels, size)."""
    gradient, dOut = np.zeros((levels, np.shape(dOut)[1])), _f64(dOut)
    np.add.at(gradient, _rows_named(codes, levels), dOut)
    return gradient


def sgd(theta, grad, rate, decay=0.0):
    """torch.optim.SGD without momentum; returns theta."""
    theta, grad = _f64(theta, grad)
    return theta - rate * (grad + decay * theta)


def momentum(theta, grad, velocity, rate, momentum, nesterov=False, decay=0.0):
    """torch.optim.SGD with momentum (velocity starts at zero); returns theta and velocity."""
    theta, grad, velocity = _f64(theta, grad, velocity)
    grad = grad + decay * theta
    velocity = momentum * velocity + grad
    step = grad + momentum * velocity if nesterov else velocity
    return theta - rate * step, velocity


def rmsprop(theta, grad, square, velocity, rate, rho, eps, momentum=0.0, decay=0.0):
    """torch.optim.RMSprop, not centred; returns theta, square and velocity."""
    theta, grad, square, velocity = _f64(theta, grad, square, velocity)
    grad = grad + decay * theta
    square = rho * square + (1.0 - rho) * grad**2
    step = grad / (np.sqrt(square) + eps)
    if momentum > 0.0:
        velocity = momentum * velocity + step
        step = velocity
    return theta - rate * step, square, velocity


def adagrad(theta, grad, square, rate, eps, rate_decay, decay, step):
    """torch.optim.Adagrad, step from 1; returns theta and square."""
    theta, grad, square = _f64(theta, grad, square)
    grad = grad + decay * theta
    square = square + grad**2
    return theta - rate / (1.0 + (step - 1) * rate_decay) * grad / (np.sqrt(square) + eps), square


def adam(theta, grad, first, second, rate, beta1, beta2, eps, decay, decoupled, step):
    """torch.optim.Adam (decay) and AdamW (decoupled), step from 1; returns theta and both moments."""
    theta, grad, first, second = _f64(theta, grad, first, second)
    grad = grad + decay * theta
    theta = theta - rate * decoupled * theta
    first = beta1 * first + (1.0 - beta1) * grad
    second = beta2 * second + (1.0 - beta2) * grad**2
    m_hat = first / (1.0 - beta1**step)
    v_hat = second / (1.0 - beta2**step)
    return theta - rate * m_hat / (np.sqrt(v_hat) + eps), first, second


class Optimizer:
    """One optimiser's hyperparameters and state for a list of arrays.

    kind is "sgd", "momentum", "rmsprop", "adagrad", "adam" or "adamw"; the other arguments are those of torch, whose
    lr_decay is rate_decay. Gradients are clipped by value first, then by the norm of all of them.
    """

    def __init__(
        self,
        kind,
        rate,
        momentum=0.9,
        nesterov=False,
        rho=0.99,
        betas=(0.9, 0.999),
        eps=1e-8,
        decay=0.0,
        clip_norm=None,
        clip_value=None,
        rate_decay=0.0,
    ):
        self.kind, self.rate, self.momentum, self.nesterov = kind, rate, momentum, nesterov
        self.rho, self.betas, self.eps, self.decay, self.rate_decay = rho, betas, eps, decay, rate_decay
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.step, self.one, self.two = 0, None, None

    def update(self, weights, grads, rate=None):
        """The weights after one step."""
        rate = self.rate if rate is None else rate
        if self.one is None:
            self.one = [np.zeros_like(w) for w in weights]
            self.two = [np.zeros_like(w) for w in weights]
        self.step += 1
        if self.clip_value is not None:
            grads = [np.clip(g, -self.clip_value, self.clip_value) for g in grads]
        if self.clip_norm is not None:
            norm = math.sqrt(sum((g**2).sum() for g in grads))
            grads = [g * min(1.0, self.clip_norm / (norm + 1e-6)) for g in grads]
        new = []
        for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
            if self.kind == "sgd":
                w = sgd(w, g, rate, self.decay)
            elif self.kind == "momentum":
                w, self.one[i] = momentum(w, g, self.one[i], rate, self.momentum, self.nesterov, self.decay)
            elif self.kind == "rmsprop":
                w, self.one[i], self.two[i] = rmsprop(
                    w, g, self.one[i], self.two[i], rate, self.rho, self.eps, self.momentum, self.decay
                )
            elif self.kind == "adagrad":
                w, self.one[i] = adagrad(w, g, self.one[i], rate, self.eps, self.rate_decay, self.decay, self.step)
            else:
                b1, b2 = self.betas
                decay, decoupled = (0.0, self.decay) if self.kind == "adamw" else (self.decay, 0.0)
                w, self.one[i], self.two[i] = adam(
                    w, g, self.one[i], self.two[i], rate, b1, b2, self.eps, decay, decoupled, self.step
                )
            new.append(w)
        return new


class Net:
    """A net by the names (or name and param) of its activations and of its loss; weights are passed in.

    `masks` are what each layer's inputs are multiplied by: 0 or 1 / (1 - rate).
    """

    def __init__(self, activations, loss, delta=1.0, l2=0.0):
        self.layers = [a if isinstance(a, tuple) else (a, DEFAULT_PARAM.get(a, 0.0)) for a in activations]
        self.loss, self.delta, self.l2 = loss, delta, l2
        self.fused = loss in FUSED

    def forward(self, weights, X, masks=None):
        """[(inputs, Z, A), ...] of each layer."""
        out, A = [], _f64(X)
        for i, ((name, param), W, b) in enumerate(zip(self.layers, weights[0::2], weights[1::2], strict=True)):
            inputs = A if masks is None else A * masks[i]
            Z, A = dense_forward(inputs, W, b, name, param)
            out.append((inputs, Z, A))
        return out

    def predict(self, weights, X):
        """Outputs of the last layer, (m, n_out)."""
        return self.forward(weights, X)[-1][2]

    def objective(self, weights, X, y, w=None, masks=None):
        """J: the weighted mean loss plus l2 / 2 times the squares of all W."""
        _, Z, A = self.forward(weights, X, masks)[-1]
        penalty = 0.5 * self.l2 * sum((_f64(W) ** 2).sum() for W in weights[0::2])
        return loss_forward(self.loss, Z if self.fused else A, y, w, self.delta) + float(penalty)

    def gradients(self, weights, X, y, w=None, masks=None):
        """([dW1, db1, ...], dX) of J."""
        states = self.forward(weights, X, masks)
        _, Z, A = states[-1]
        delta = loss_backward(self.loss, Z if self.fused else A, y, w, self.delta)
        grads = []
        for i in reversed(range(len(self.layers))):
            name, param = self.layers[i]
            if i == len(self.layers) - 1 and self.fused:
                name = "linear"
            inputs, Z, _ = states[i]
            _, delta, dW, db = dense_backward(delta, Z, inputs, weights[2 * i], name, param)
            delta = delta if masks is None else delta * masks[i]
            grads = [dW + self.l2 * _f64(weights[2 * i]), db, *grads]
        return grads, delta

    def train(self, weights, X, y, optimizer, epochs, batches=None, w=None, rates=None, drops=None, seed=0):
        """Train; returns the weights and the mean loss of each epoch, taken before each update.

        Parameters
        ----------
        batches : list of index arrays, or list (one per epoch) of such lists; None is the full batch.
        rates : learning rate of each epoch; None leaves the optimiser's own.
        drops : share of each layer's inputs that is dropped; None for no dropout.
        """
        X = _f64(X)
        y = np.asarray(y)
        weights = [_f64(a).copy() for a in weights]
        history = np.zeros(epochs)
        for epoch in range(epochs):
            chosen = [np.arange(len(X))] if batches is None else batches
            if isinstance(chosen[0], list):
                chosen = chosen[epoch]
            total, masks, first = 0.0, None, 0
            for rows in chosen:
                if drops is not None:
                    widths = [W.shape[1] for W in weights[0::2]]
                    masks = [
                        dropout_mask(rate, seed, epoch, i, first, len(rows), width)
                        for i, (rate, width) in enumerate(zip(drops, widths, strict=True))
                    ]
                    first += len(rows)
                wb = None if w is None else _f64(w)[rows]
                share = len(rows) if w is None else wb.sum()
                history[epoch] += share * self.objective(weights, X[rows], y[rows], wb, masks)
                total += share
                grads, _ = self.gradients(weights, X[rows], y[rows], wb, masks)
                weights = optimizer.update(weights, grads, None if rates is None else rates[epoch])
            history[epoch] /= total
        return weights, history


def in_order(m, batch_size):
    """Row indices of the batches of an unshuffled epoch, the last one short."""
    return [np.arange(i, min(i + batch_size, m)) for i in range(0, m, batch_size)]


def central_difference(f, x, h=1e-6):
    """Gradient of the scalar function f at x (float64) by central differences."""
    x = np.array(x, dtype=np.float64)
    grad = np.empty_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + h
        above = f(x)
        x[i] = kept - h
        below = f(x)
        x[i] = kept
        grad[i] = (above - below) / (2.0 * h)
    return grad


def weighted_gram(X, s, shift, scale):
    """Sum over the samples of s x x^T, x the standardised sample with a 1 behind it."""
    x = np.column_stack([(_f64(X) - _f64(shift)) * _f64(scale), np.ones(len(X))])
    return sum(weight * np.outer(row, row) for weight, row in zip(_f64(s), x, strict=True))
