"""Nets in the ONNX format, for other programs to run (extra `onnx`)."""

from . import backends, files
from .errors import described, must_be

_OPSET = 20  # the first with Gelu
_IR_VERSION = 9  # the first that goes with it


def save(net, path):
    """Write a net; see `Sequential.to_onnx`."""
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError:
        raise ImportError("to_onnx needs onnx: pip install 'fastnn[onnx]'") from None
    arrays, learned = net.program.views(net.state.parameters), net.standardization
    _must_be_expressible(net.layers)
    path = files.check_target("path", path)
    nodes, weights, value, trained = [], [], "X", 0

    def add(operator, number, name):
        """A node that does something to each feature."""
        nonlocal value
        weights.append(numpy_helper.from_array(number.astype(net.dtype), name))
        nodes.append(helper.make_node(operator, [value, name], [f"{name}.0"]))
        value = nodes[-1].output[0]

    if learned is not None:
        add("Sub", learned.mean, "mean")
        add("Mul", 1 / learned.std, "scale")
    for place, layer in enumerate(net.layers, 1):
        names = []
        if layer.arrays:
            names = [f"{name}{trained + 1}" for name in layer.arrays]
            weights += map(numpy_helper.from_array, arrays[trained], names)
            trained += 1
        for i, (operator, inputs, attributes) in enumerate(layer.onnx_nodes(value, names, f"{place}.")):
            nodes.append(helper.make_node(operator, inputs, [f"{place}.{i}"], **attributes))
        value = nodes[-1].output[0] if nodes else "X"
    if learned is not None and net.scales_targets:
        add("Mul", learned.target_std, "target_std")
        add("Add", learned.target_mean, "target_mean")
    nodes[-1].output[0] = "output"
    number = helper.np_dtype_to_tensor_dtype(net.dtype)
    inputs = helper.make_tensor_value_info("X", number, ["samples", net.n_features])
    outputs = helper.make_tensor_value_info("output", number, ["samples", net.outputs])
    graph = helper.make_graph(nodes, "fastnn", [inputs], [outputs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    files.replace(path, model.SerializeToString())


def _must_be_expressible(layers):
    """Refuse activations for which ONNX has no operators."""
    accepted = "of activations that have names"
    for layer in layers:
        activation = layer.activation
        if isinstance(activation, tuple):
            names = ", ".join(function.__name__ for function in activation)
            raise must_be("net", accepted, described(f"the functions {names}"))
        if activation not in (None, "linear") and not backends.activation(activation).onnx:
            raise must_be("net", "of activations that ONNX has operators for", activation)
