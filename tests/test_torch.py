"""The same weights as torch after fifty steps of every optimiser, full batch, from the same start."""

import numpy as np
import pytest
import recipes
import reference
from arrays import normal
from nets import data, flat, pair
from tolerance import assert_close

import fastnn
from fastnn import kernels
from fastnn.kernels import cpu

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

WIDTHS = (5, 16, 8, 3)
STEPS = 50
OPTIMIZERS = {
    "sgd": (lambda: fastnn.SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "sgd, decay": (
        lambda: fastnn.SGD(0.1, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01),
    ),
    "momentum": (lambda: fastnn.SGD(0.05, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
    "momentum, decay": (
        lambda: fastnn.SGD(0.05, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    ),
    "nesterov": (
        lambda: fastnn.SGD(0.05, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    ),
    "nesterov, decay": (
        lambda: fastnn.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    ),
    "rmsprop": (lambda: fastnn.RMSprop(), lambda p: torch.optim.RMSprop(p)),
    "rmsprop, settings": (
        lambda: fastnn.RMSprop(0.005, rho=0.9, eps=1e-6, weight_decay=0.01),
        lambda p: torch.optim.RMSprop(p, lr=0.005, alpha=0.9, eps=1e-6, weight_decay=0.01),
    ),
    "rmsprop, momentum": (
        lambda: fastnn.RMSprop(0.001, momentum=0.9),
        lambda p: torch.optim.RMSprop(p, lr=0.001, momentum=0.9),
    ),
    "adagrad": (lambda: fastnn.Adagrad(), lambda p: torch.optim.Adagrad(p)),
    "adagrad, decay": (
        lambda: fastnn.Adagrad(0.03, rate_decay=0.1, eps=1e-7, weight_decay=0.01),
        lambda p: torch.optim.Adagrad(p, lr=0.03, lr_decay=0.1, eps=1e-7, weight_decay=0.01),
    ),
    "adam": (lambda: fastnn.Adam(), lambda p: torch.optim.Adam(p)),
    "adam, decay": (
        lambda: fastnn.Adam(0.01, beta1=0.8, beta2=0.99, eps=1e-7, weight_decay=0.01),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99), eps=1e-7, weight_decay=0.01),
    ),
    "adamw": (lambda: fastnn.AdamW(), lambda p: torch.optim.AdamW(p)),
    "adamw, decay": (
        lambda: fastnn.AdamW(0.01, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    ),
}
OUTPUTS = {
    "cross_entropy": ("softmax", torch.nn.CrossEntropyLoss()),
    "binary_cross_entropy": ("sigmoid", torch.nn.BCEWithLogitsLoss()),
    "mse": ("linear", torch.nn.MSELoss()),
    "huber": ("linear", torch.nn.HuberLoss()),
}
MODULES = {
    "linear": torch.nn.Identity(),
    "sigmoid": torch.nn.Sigmoid(),
    "tanh": torch.nn.Tanh(),
    "relu": torch.nn.ReLU(),
    "leaky_relu": torch.nn.LeakyReLU(0.01),
    "elu": torch.nn.ELU(),
    "softplus": torch.nn.Softplus(),
    "silu": torch.nn.SiLU(),
    "gelu": torch.nn.GELU(),
    "gelu_tanh": torch.nn.GELU("tanh"),
}


def torch_weights(weights, X, y, hidden, loss, make, dtype):
    """Weights after STEPS steps; the last layer gives logits, as torch's fused losses take them."""
    kind = getattr(torch, dtype)
    layers = []
    for W, b in zip(weights[0::2], weights[1::2], strict=True):
        linear = torch.nn.Linear(W.shape[1], W.shape[0], dtype=kind)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W))
            linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, MODULES[hidden]]
    net = torch.nn.Sequential(*layers[:-1])
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    y = y if loss == "cross_entropy" else y.to(kind)
    optimizer = make(net.parameters())
    for _ in range(STEPS):
        optimizer.zero_grad()
        OUTPUTS[loss][1](net(X), y).backward()
        optimizer.step()
    return [p.detach().numpy() for p in net.parameters()]


def compare(hidden, loss, optimizer, dtype):
    ours, theirs = OPTIMIZERS[optimizer]
    net, _, weights = pair(WIDTHS, (hidden, hidden, OUTPUTS[loss][0]), loss, dtype=dtype)
    X, y = data(60, loss=loss, dtype=dtype)
    expected = torch_weights(weights, X, y, hidden, loss, theirs, dtype)
    net.fit(X, y, optimizer=ours(), epochs=STEPS)
    moved = max(abs(flat(expected) - flat(weights)))
    assert moved > 1e-2
    kind = "torch_rmsprop" if optimizer.startswith("rmsprop") else "torch"
    assert_close(flat(net.get_weights()), flat(expected), kind, dtype)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer, dtype):
    compare("tanh", "cross_entropy", optimizer, dtype)


@pytest.mark.parametrize("loss", OUTPUTS)
def test_every_loss(loss, dtype):
    compare("tanh", loss, "sgd", dtype)


@pytest.mark.parametrize("hidden", MODULES)
def test_every_activation(hidden):
    compare(hidden, "mse", "momentum", "float64")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_reference_itself(optimizer):
    settings = {
        "sgd": dict(kind="sgd", rate=0.1),
        "sgd, decay": dict(kind="sgd", rate=0.1, decay=0.01),
        "momentum": dict(kind="momentum", rate=0.05),
        "momentum, decay": dict(kind="momentum", rate=0.05, decay=0.01),
        "nesterov": dict(kind="momentum", rate=0.05, nesterov=True),
        "nesterov, decay": dict(kind="momentum", rate=0.05, nesterov=True, decay=0.01),
        "rmsprop": dict(kind="rmsprop", rate=0.01, momentum=0.0),
        "rmsprop, settings": dict(kind="rmsprop", rate=0.005, rho=0.9, eps=1e-6, momentum=0.0, decay=0.01),
        "rmsprop, momentum": dict(kind="rmsprop", rate=0.001),
        "adagrad": dict(kind="adagrad", rate=0.01, eps=1e-10),
        "adagrad, decay": dict(kind="adagrad", rate=0.03, rate_decay=0.1, eps=1e-7, decay=0.01),
        "adam": dict(kind="adam", rate=1e-3),
        "adam, decay": dict(kind="adam", rate=0.01, betas=(0.8, 0.99), eps=1e-7, decay=0.01),
        "adamw": dict(kind="adamw", rate=1e-3, decay=0.01),
        "adamw, decay": dict(kind="adamw", rate=0.01, decay=0.1),
    }[optimizer]
    weights = recipes.random_weights(WIDTHS, 3)
    X, y = data(60)
    expected = torch_weights(weights, X, y, "tanh", "cross_entropy", OPTIMIZERS[optimizer][1], "float64")
    net = reference.Net(("tanh", "tanh", "softmax"), "cross_entropy")
    found, _ = net.train(weights, X, y, reference.Optimizer(**settings), STEPS)
    assert_close(flat(found), flat(expected), "torch")


@pytest.mark.parametrize("name", MODULES)
def test_activations_of_the_reference(name):
    z = torch.linspace(-9, 9, 181, dtype=torch.float64, requires_grad=True)
    a = MODULES[name](z)
    (slope,) = torch.autograd.grad(a.sum(), z)
    param = reference.DEFAULT_PARAM.get(name, 0.0)
    values = z.detach().numpy()
    assert_close(reference.activation(name, values, param), a.detach().numpy(), "sum")
    assert_close(reference.activation_derivative(name, values, param), slope.numpy(), "sum")


@pytest.mark.parametrize("loss", ["poisson", "gaussian"])
def test_losses_of_distributions(loss, dtype):
    """From the logarithms of rates, and from means and logarithms of variances."""
    Z, y = normal(1, 40, 6, dtype=dtype), abs(normal(2, 40, 6 if loss == "poisson" else 3, dtype=dtype))
    z, target = torch.from_numpy(Z).requires_grad_(), torch.from_numpy(y)
    if loss == "poisson":
        theirs = torch.nn.PoissonNLLLoss(log_input=True)(z, target)
    else:
        theirs = torch.nn.GaussianNLLLoss()(z[:, :3], target, z[:, 3:].exp())
    theirs.backward()
    code, none, dZ = getattr(kernels, loss.upper()), np.empty(0, dtype), np.empty_like(Z)
    cpu.loss_backward(code, 0.0, Z, y, none, dZ)
    assert_close(cpu.loss_forward(code, 0.0, Z, y, none), theirs.item(), "sum", dtype)
    assert_close(dZ, z.grad.numpy(), "sum")
