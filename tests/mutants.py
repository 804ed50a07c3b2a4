"""Changes each formula and each derivative and prints those whose change nobody sees: there must be none.

    python mutants.py cpu|cuda [KIND...]

Formulas are bound when the kernels are imported: the package is imported anew for changes. Nothing is compiled: run it
with NUMBA_DISABLE_JIT=1, and with NUMBA_ENABLE_CUDASIM=1 for cuda.
"""

import importlib.util
import sys

import numpy as np


def import_with(change):
    """The package, imported anew after `change(formulas)`."""
    for name in [name for name in sys.modules if name == "fastnn" or name.startswith("fastnn.")]:
        del sys.modules[name]
    # the formulas alone, before the package imports what is made of them
    spec = importlib.util.find_spec("fastnn")
    sys.modules["fastnn"] = importlib.util.module_from_spec(spec)
    change(importlib.import_module("fastnn.kernels.formulas"))
    del sys.modules["fastnn"]
    return importlib.import_module("fastnn")


def mutate(record, part):
    """Let part `part` of what the formula of a record gives be another number."""
    make, single = record.make, part is None

    def mutated(o):
        half, made = o.half, make(o)
        if isinstance(made, tuple):
            functions = [o.jit(function) for function in made]
            f, df = functions
            if part == 0:
                return lambda alpha, z: f(alpha, z) + half, df
            return f, lambda alpha, z, a: df(alpha, z, a) + half
        formula = o.jit(made)
        if single:

            def update(theta, grad, first, second, decay, n):
                theta, first, second = formula(theta, grad, first, second, decay, n)
                return theta + half, first, second

            return update

        def loss_with_log(param, z, y):
            rest, e, slope = formula(param, z, y)
            return (rest + half, e, slope) if part == 0 else (rest, e, slope + half)

        def loss(param, z, y):
            value, slope = formula(param, z, y)
            return (value + half, slope) if part == 0 else (value, slope + half)

        def paired(param, z, v, y):
            value, *slopes = formula(param, z, v, y)
            moved = [value, *slopes]
            moved[part] = moved[part] + half
            return tuple(moved)

        if record.with_log:
            return loss_with_log
        return paired if record.outputs_per_target == 2 else loss

    object.__setattr__(record, "make", mutated)


def mutate_prepared(record):
    """Let the rate that a rule prepares be twice what it is."""
    prepare = record.prepare

    def mutated(sqrt):
        prepared = prepare(sqrt)

        def twice(rate, settings, step):
            a, b, c = prepared(rate, settings, step)
            return 2 * a, b, c

        return twice

    object.__setattr__(record, "prepare", mutated)


OPTIMIZERS = {
    "sgd": lambda fastnn: fastnn.SGD(0.1),
    "momentum": lambda fastnn: fastnn.SGD(0.1, momentum=0.5),
    "nesterov": lambda fastnn: fastnn.SGD(0.1, momentum=0.5, nesterov=True),
    "rmsprop": lambda fastnn: fastnn.RMSprop(0.1),
    "adagrad": lambda fastnn: fastnn.Adagrad(0.1, rate_decay=0.5),
    "adam": lambda fastnn: fastnn.Adam(0.1),
}


def results(fastnn, device, kind, name):
    """Of a small net: outputs for few and for many rows, gradient, loss, fitted parameters; then `kernels`."""
    activation, loss, optimizer = "tanh", "mse", fastnn.SGD(0.1)
    if kind == "activation":
        activation = name
    elif kind == "loss":
        loss = name
    else:
        optimizer = OPTIMIZERS[name](fastnn)
    last = {"binary_cross_entropy": "sigmoid", "poisson": "exp"}.get(loss, "linear")
    layers = [fastnn.Dense(3, activation), fastnn.Dense(2 if loss == "gaussian" else 1, last)]
    net = fastnn.Sequential(layers, loss=loss, dtype="float64", device=device, seed=3).build(2)
    X = np.random.default_rng(1).normal(size=(4, 2))
    y = np.array([0.0, 1.0, 1.0, 0.0])
    outputs = [net.predict(X), net.predict(np.tile(X, (5, 1)))]
    value, gradient = net.loss_and_gradient(X, y)
    gradient = np.concatenate([gradient[part] for pair in net.parameter_slices for part in pair])
    net.fit(X, y, optimizer, epochs=1)
    theta = np.concatenate([array.ravel() for array in net.get_weights()])
    return *outputs, gradient, np.array(value), theta, *kernels(device, kind, name)


def kernels(device, kind, name):
    """(A, dZ) of the public kernels, for an activation."""
    if kind != "activation":
        return ()
    backend = importlib.import_module(f"fastnn.kernels.{device}")
    code = getattr(importlib.import_module("fastnn.kernels"), name.upper())
    Z = np.linspace(-2.0, 2.0, 6).reshape(2, 3)
    A, dZ = np.empty_like(Z), np.empty_like(Z)
    backend.activation_forward(code, 0.5, Z, A)
    backend.activation_backward(code, 0.5, np.ones_like(Z), Z, A, dZ)
    return A, dZ


def main(device, *kinds):
    """Print each mutant that makes no difference where it must, and how many there were."""
    import fastnn.kernels.formulas as formulas

    lists = {"activation": "ACTIVATIONS", "loss": "LOSSES", "rule": "RULES"}
    # which results must differ, by the part that is changed
    places = {"activation": {0: (0, 1, 3, 5), 1: (2, 6)}, "loss": {0: (3,), 1: (2,), 2: (2,)}}
    places["rule"] = {None: (4,), "prepare": (4,)}
    count = 0
    for kind in kinds or lists:
        records = [record for record in getattr(formulas, lists[kind]) if record.make is not None]
        right = all_results(lambda formulas: None, device, kind, records)
        for part, seen in places[kind].items():
            changed = [record for record in records if has(record, part, formulas)]

            # of one kind all at once: a net uses one formula of it
            def change(formulas, kind=kind, changed=changed, part=part):
                for record in changed:
                    of_copy = getattr(formulas, lists[kind])[record.code]
                    mutate_prepared(of_copy) if part == "prepare" else mutate(of_copy, part)

            found = all_results(change, device, kind, changed)
            for name in found:
                count += 1
                must = seen[-1:] if name == "linear" else seen  # which nets leave out
                survivors = [i for i in must if np.allclose(found[name][i], right[name][i], rtol=1e-6, atol=0)]
                if survivors:
                    print(kind, name, part, survivors)
    print(count)


def has(record, part, formulas):
    """Whether a record has such a part."""
    if part == "prepare":
        return record.prepare is not formulas.constant_rate
    return part != 2 or record.outputs_per_target > 1


def all_results(change, device, kind, records):
    """{name: results} of some records, in the package after a change."""
    fastnn = import_with(change)
    return {record.name: results(fastnn, device, kind, record.name) for record in records}


if __name__ == "__main__":
    main(*sys.argv[1:])
