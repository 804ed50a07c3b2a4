"""Nets in the ONNX format, for other programs to run (extra `onnx`).

An activation is the operator that its record names, or else its formula over operators that ONNX Runtime implements in
both dtypes: arithmetic, comparisons, Where, Abs, Exp, Log, Sqrt and Tanh; in float32 Sigmoid and Erf, too.
"""

import numpy as np

from . import backends, files
from .errors import described, must_be

_OPSET = 13  # of 2020; later ones only for activations that name a later operator


def save(net, path):
    """Write a net; see `Sequential.to_onnx`."""
    _write(net, path, [net], _net)


def save_ensemble(ensemble, path):
    """Write an ensemble; see `Ensemble.to_onnx`."""
    _write(ensemble, path, ensemble.nets, _weighted_sum)


def _write(net, path, nets, add):
    """Write a graph of what `add(graph, net)` makes of the input."""
    try:
        import onnx
        from onnx import helper
    except ImportError:
        raise ImportError(f"to_onnx needs onnx: {backends.pip_install('onnx')}") from None
    for one in nets:
        one.program  # noqa: B018  (it says what is missing)
        _must_be_expressible(one.layers)
    path, graph = files.check_target("path", path), Graph(net.dtype)
    add(graph, net)
    graph.nodes[-1].output[0] = "output"
    number = helper.np_dtype_to_tensor_dtype(net.dtype)
    inputs = helper.make_tensor_value_info("X", number, ["samples", net.n_features])
    outputs = helper.make_tensor_value_info("output", number, ["samples", net.outputs])
    made = helper.make_graph(graph.nodes, "fastnn", [inputs], [outputs], graph.constants)
    version = [helper.make_opsetid("", graph.opset())]
    model = helper.make_model(made, opset_imports=version, ir_version=helper.find_min_ir_version_for(version))
    onnx.checker.check_model(model)
    files.replace(path, model.SerializeToString())


def _net(graph, net, prefix=""):
    """The name of the outputs of a net; those of its arrays begin with `prefix`."""
    arrays, names = iter(net.program.views(net.state.parameters)), iter(net.array_names)
    learned, value = net.standardization, "X"
    if learned is not None and net.columns is None:
        value = graph.add("Sub", value, graph.constant(learned.mean, f"{prefix}mean"))
        value = graph.add("Mul", value, graph.constant(1 / learned.std, f"{prefix}scale"))
    for layer in net.bound_layers:
        own = [graph.constant(array, prefix + next(names)) for array in next(arrays)] if layer.arrays else []
        value = _activated(graph, layer.add_to_onnx(graph, value, own), layer)
    if learned is not None and net.scales_targets:
        value = graph.add("Mul", value, graph.constant(learned.target_std, f"{prefix}target_std"))
        value = graph.add("Add", value, graph.constant(learned.target_mean, f"{prefix}target_mean"))
    return value


def _weighted_sum(graph, ensemble):
    """The name of the average; Mean would do for equal weights, but ONNX Runtime has none in float64."""
    voters = [(i, net, weight) for i, (net, weight) in enumerate(ensemble.pairs()) if weight > 0]
    total = sum(weight for _, _, weight in voters)
    parts = [
        graph.add("Mul", _net(graph, net, f"net {i} "), graph.constant(weight / total)) for i, net, weight in voters
    ]
    return graph.add("Sum", *parts)


def _must_be_expressible(layers):
    """Refuse functions of the user's own."""
    for layer in layers:
        if isinstance(layer.activation, tuple):
            names = ", ".join(function.__name__ for function in layer.activation)
            raise must_be("net", "of activations that have names", described(f"the functions {names}"))


class Graph:
    """Nodes and constants of a graph.

    Parameters
    ----------
    dtype : dtype
        Of the net.

    Attributes
    ----------
    added : str or None
        Name of what the next Dense layer adds to its products.
    """

    def __init__(self, dtype):
        self.dtype, self.nodes, self.constants, self.added = dtype, [], [], None

    def add(self, operator, *inputs, **attributes):
        """A node more, from the names of its inputs to that of its output."""
        from onnx import helper

        name = f"{len(self.nodes) + 1}.{operator}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, value, name=None):
        """The name of an array, or of a number, in the net's dtype."""
        from onnx import numpy_helper

        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, self.dtype), name))
        return name

    def integers(self, value):
        """The name of an array of int64, or of one."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.int64), name))
        return name

    def cast(self, value, dtype):
        """A value in another dtype."""
        from onnx import helper

        return self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def opset(self):
        """The first version of ONNX that has all operators."""
        from onnx import defs

        versions = range(_OPSET, defs.onnx_opset_version() + 1)
        return next(v for v in versions if all(defs.has(node.op_type, v) for node in self.nodes))


def _activated(graph, value, layer):
    """The name of the outputs of a layer, from that of what goes through its activation."""
    if layer.activation in (None, "linear"):
        return value
    record = backends.activation(layer.activation)
    # in float64 ONNX Runtime has no LeakyRelu, Elu and Softplus
    if record.onnx and (graph.dtype == np.float32 or record.make is None):
        return graph.add(record.onnx, value, **({} if layer.alpha is None else {"alpha": layer.alpha}))
    formula, _ = record.make(_operations(graph))
    return formula(layer.alpha, _Value(graph, value)).name


class _Value:
    """A result in a graph; what is computed with it becomes nodes."""

    def __init__(self, graph, name):
        self.graph, self.name = graph, name

    def through(self, operator, *others):
        """What an operator makes of it, and of other values or numbers."""
        names = [one.name if isinstance(one, _Value) else self.graph.constant(one) for one in (self, *others)]
        return _Value(self.graph, self.graph.add(operator, *names))

    def __neg__(self):
        return self.through("Neg")

    def __add__(self, other):
        return self.through("Add", other)

    def __sub__(self, other):
        return self.through("Sub", other)

    def __rsub__(self, other):
        return (-self).through("Add", other)

    def __mul__(self, other):
        return self.through("Mul", other)

    def __truediv__(self, other):
        return self.through("Div", other)

    def __rtruediv__(self, other):
        return _Value(self.graph, self.graph.constant(other)).through("Div", self)

    def __lt__(self, other):
        return self.through("Less", other)

    def __le__(self, other):
        return self.through("LessOrEqual", other)

    def __gt__(self, other):
        return self.through("Greater", other)

    __radd__, __rmul__ = __add__, __mul__


def _operations(graph):
    """What formulas are written with (`formulas.operations_of`), as nodes of a graph."""
    operators = "absolute Abs sqrt Sqrt exp Exp tanh Tanh sigmoid Sigmoid erf Erf".split()
    functions = {
        name: lambda z, operator=operator: z.through(operator)
        for name, operator in zip(operators[::2], operators[1::2], strict=True)
    }
    functions |= dict(expm1=_expm1, log1p=_log1p, select=lambda condition, a, b: condition.through("Where", a, b))
    if graph.dtype == np.float64:
        functions |= dict(erf=_erf, sigmoid=_sigmoid)
    return backends.formula_operations(real=float, like=lambda number, z: number, jit=None, **functions)


def _expm1(z):
    return (z * 0.5).through("Tanh") * (z.through("Exp") + 1.0)


def _log1p(z):
    total = z + 1.0
    log = total.through("Log")
    # what the sum has lost of z; where it is z itself, perhaps infinity, nothing
    return total.through("Equal", z).through("Where", log, log + (z - (total - 1.0)) / total)


def _sigmoid(z):
    """Without the operator, which ONNX Runtime 1.16 fuses with others into some that it lacks in float64."""
    return 1.0 / ((-z).through("Exp") + 1.0)


def _erf(z):
    """As `kernels.cpu.vmath.erf`: ONNX Runtime has none in float64."""
    near, far, join, end = backends.ERF
    size = z.through("Abs")
    eighth = _polynomial((size > end).through("Where", end, size), far)
    fourth = eighth * eighth * (eighth * eighth)
    beyond = 1.0 - fourth * fourth
    return (size < join).through("Where", z * _polynomial(z * z, near) + z, (z < 0.0).through("Where", -beyond, beyond))


def _polynomial(z, coefficients):
    """Of these coefficients, lowest power first."""
    *others, result = coefficients
    for coefficient in reversed(others):
        result = z * result + coefficient
    return result
