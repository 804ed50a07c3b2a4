"""The same net and the same optimiser, once as fastnn's and once as the reference's."""

import numpy as np
import recipes
import reference
from arrays import normal

import fastnn

# name: (fastnn's, the reference's settings)
OPTIMIZERS = {
    "sgd": (lambda: fastnn.SGD(learning_rate=0.1), dict(kind="sgd", rate=0.1)),
    "sgd, decay": (lambda: fastnn.SGD(0.1, weight_decay=0.05), dict(kind="sgd", rate=0.1, decay=0.05)),
    "momentum": (lambda: fastnn.SGD(0.05, momentum=0.9), dict(kind="momentum", rate=0.05, momentum=0.9)),
    "momentum, decay": (
        lambda: fastnn.SGD(0.05, momentum=0.8, weight_decay=0.05),
        dict(kind="momentum", rate=0.05, momentum=0.8, decay=0.05),
    ),
    "nesterov": (
        lambda: fastnn.SGD(0.05, momentum=0.9, nesterov=True),
        dict(kind="momentum", rate=0.05, momentum=0.9, nesterov=True),
    ),
    "nesterov, decay": (
        lambda: fastnn.SGD(0.05, momentum=0.8, nesterov=True, weight_decay=0.05),
        dict(kind="momentum", rate=0.05, momentum=0.8, nesterov=True, decay=0.05),
    ),
    "rmsprop": (
        lambda: fastnn.RMSprop(0.01, rho=0.9, eps=1e-6),
        dict(kind="rmsprop", rate=0.01, rho=0.9, eps=1e-6, momentum=0.0),
    ),
    "rmsprop, momentum": (
        lambda: fastnn.RMSprop(0.005, rho=0.95, momentum=0.5),
        dict(kind="rmsprop", rate=0.005, rho=0.95, momentum=0.5),
    ),
    "rmsprop, decay": (
        lambda: fastnn.RMSprop(0.005, momentum=0.5, weight_decay=0.05),
        dict(kind="rmsprop", rate=0.005, momentum=0.5, decay=0.05),
    ),
    "adagrad": (lambda: fastnn.Adagrad(0.05), dict(kind="adagrad", rate=0.05, eps=1e-10)),
    "adagrad, decay": (
        lambda: fastnn.Adagrad(0.05, rate_decay=0.2, eps=1e-6, weight_decay=0.05),
        dict(kind="adagrad", rate=0.05, rate_decay=0.2, eps=1e-6, decay=0.05),
    ),
    "adam": (lambda: fastnn.Adam(0.02), dict(kind="adam", rate=0.02)),
    "adam, decay": (
        lambda: fastnn.Adam(0.02, beta1=0.8, beta2=0.99, eps=1e-7, weight_decay=0.05),
        dict(kind="adam", rate=0.02, betas=(0.8, 0.99), eps=1e-7, decay=0.05),
    ),
    "adamw": (lambda: fastnn.AdamW(0.02, weight_decay=0.1), dict(kind="adamw", rate=0.02, decay=0.1)),
}
CHANGING = (  # (optimizer, l2) of steps one after the other: each differs from the one before in one thing
    (fastnn.SGD(0.1), 0.0),
    (fastnn.SGD(0.1), 0.1),
    (fastnn.SGD(0.05), 0.1),
    (fastnn.Adam(0.05), 0.1),
    (fastnn.Adam(0.05), 0.1),
    (fastnn.Adam(0.05, beta1=0.5), 0.1),
    (fastnn.Adam(0.05, beta1=0.5, clip_norm=0.1), 0.1),
    (fastnn.Adam(0.05, beta1=0.5, clip_norm=0.1, weight_decay=0.1), 0.1),
    (fastnn.SGD(0.05, momentum=0.9), 0.1),
)

WIDTHS = (5, 7, 6, 3)
ACTIVATIONS = ("tanh", "softplus", "softmax")
LOSS = "cross_entropy"
PARAMETER = {"huber": "huber_delta", "quantile": "quantile"}


def pair(
    widths=WIDTHS,
    activations=ACTIVATIONS,
    loss=LOSS,
    dtype="float64",
    seed=0,
    l2=0.0,
    weights=None,
    drops=None,
    **options,
):
    """(fastnn net, reference net, weights): both start from the same weights, already rounded to dtype."""
    layers = []
    for i, (units, name) in enumerate(zip(widths[1:], activations, strict=True)):
        if drops is not None and drops[i] > 0:
            layers.append(fastnn.Dropout(drops[i]))
        name, alpha = name if isinstance(name, tuple) else (name, None)
        layers.append(fastnn.Dense(units, name) if alpha is None else fastnn.Dense(units, name, alpha=alpha))
    net = fastnn.Sequential(layers, loss=loss, dtype=dtype, seed=seed, **options)
    net.build(widths[0])
    weights = recipes.random_weights(widths, 3) if weights is None else weights
    weights = [w.astype(dtype).astype(np.float64) for w in weights]
    net.set_weights(weights)
    delta = options.get(PARAMETER.get(loss), reference.DEFAULT_PARAM.get(loss, 1.0))
    return net, reference.Net(activations, loss, l2=l2, delta=delta), weights


def data(m=40, n=WIDTHS[0], k=WIDTHS[-1], loss=LOSS, dtype="float64"):
    """X (m, n) and targets that suit the loss, learnable but not without rest."""
    X = normal(20, m, n, dtype=dtype)
    score = X.astype(np.float64) @ normal(21, n, k) + 0.5 * normal(22, m, k)
    if loss == "cross_entropy":
        return X, score.argmax(axis=1)
    if loss == "binary_cross_entropy":
        return X, (score > 0).astype(np.int64)
    if loss == "poisson":
        return X, np.floor(np.exp(np.tanh(score)) + 0.5)
    return X, np.tanh(score)


def flat(weights):
    """All weights in one vector, without padding."""
    return np.concatenate([np.asarray(w, dtype=np.float64).ravel() for w in weights])
