"""Nets in the ONNX format, for other programs to run (extra `onnx`)."""

from . import storage
from .errors import described, must_be

_OPSET = 20  # the first with Gelu
_IR_VERSION = 9  # the first that goes with it
_NODES = {
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {}),
    "elu": ("Elu", {}),
    "softplus": ("Softplus", {}),
    "gelu": ("Gelu", {"approximate": "none"}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "softmax": ("Softmax", {"axis": 1}),
}


def save(net, path):
    """Write a net; see `Net.to_onnx`."""
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError:
        raise ImportError("to_onnx needs onnx: pip install 'fastnn[onnx]'") from None
    net._must_be_built()
    own = [layer.activation for layer in net.dense if not isinstance(layer.activation, str)]
    if own:
        names = ", ".join(function.__name__ for function in own[0])
        raise must_be("net", "of activations that have names", described(f"the functions {names}"))
    path = storage.check_target("path", path)
    parameters, nodes, weights, value = net._asked(), [], [], "X"
    for i, layer in enumerate(net.dense, 1):
        for name, array in zip((f"W{i}", f"b{i}"), net._view(i - 1, parameters), strict=True):
            weights.append(numpy_helper.from_array(array, name))
        nodes.append(helper.make_node("Gemm", [value, f"W{i}", f"b{i}"], [f"Z{i}"], transB=1))
        value = f"Z{i}"
        if layer.activation == "silu":
            nodes.append(helper.make_node("Sigmoid", [value], [f"S{i}"]))
            nodes.append(helper.make_node("Mul", [value, f"S{i}"], [f"A{i}"]))
            value = f"A{i}"
        elif layer.activation != "linear":
            kind, settings = _NODES[layer.activation]
            alpha = {} if layer.alpha is None else {"alpha": layer.alpha}
            nodes.append(helper.make_node(kind, [value], [f"A{i}"], **settings, **alpha))
            value = f"A{i}"
    nodes[-1].output[0] = "output"
    number = helper.np_dtype_to_tensor_dtype(net.dtype)
    inputs = helper.make_tensor_value_info("X", number, ["samples", net.n_features])
    outputs = helper.make_tensor_value_info("output", number, ["samples", net.outputs])
    graph = helper.make_graph(nodes, "fastnn", [inputs], [outputs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    storage.replace(path, model.SerializeToString())
