"""What a net is, layer by layer: text for a terminal, HTML for a notebook."""

import html

import numpy as np

from . import custom
from .layers import starting_values

_HEAD = ("layer", "inputs", "outputs", "parameters")


def text(net):
    """The table of `Sequential.summary`."""
    rows, total = _rows(net)
    lines = [_line(*_HEAD), *(_line(*row) for row in rows), f"{_settings(net):<44}{total:>14}", _standing(net)]
    return "\n".join(lines)


def page(net):
    """The same table for a notebook, in the colours of its theme."""
    rows, total = _rows(net)
    right, left = (f' style="text-align: {side}"' for side in ("right", "left"))

    def row(kind, name, *numbers):
        cells = [f"<{kind}{left}>{html.escape(name)}</{kind}>"]
        cells += [f"<{kind}{right}>{number}</{kind}>" for number in numbers]
        return f"<tr>{''.join(cells)}</tr>"

    return (
        f'<table><caption style="text-align: left; white-space: nowrap">{type(net).__name__}, '
        f"{html.escape(_settings(net))}<br>{_standing(net)}</caption>"
        f"<thead>{row('th', *_HEAD)}</thead><tbody>{''.join(row('td', *one) for one in rows)}</tbody>"
        f"<tfoot>{row('th', 'all', '', '', total)}</tfoot></table>"
    )


def _rows(net):
    """([(layer, inputs, outputs, parameters), ...], parameters of all), numbers as text; empty where there are none."""
    rows, inputs, count = [("standardize=True", "", "", "")] * net.standardize, net.n_features, 0
    counts = iter(() if inputs is None else [sum(s.stop - s.start for s in part) for part in net.parameter_slices])
    for layer in net.bound_layers:
        if not layer.arrays:
            rows.append((repr(layer), "", "", ""))
            inputs = inputs if layer.units is None else layer.units
            continue
        activation = "" if layer.activation is None else f" {custom.named(layer.activation)}"
        own, outputs = next(counts, None), inputs if layer.units is None else layer.units
        numbers = ("?" if number is None else f"{number:,}" for number in (inputs, outputs, own))
        rows.append((layer.title + activation, *numbers))
        inputs, count = outputs, count + (own or 0)
    return rows, f"{count:,}" if count else "?"


def _line(layer, inputs, outputs, parameters):
    return f"{layer:<24}{inputs:>10}{outputs:>10}{parameters:>14}".rstrip()


def _settings(net):
    return f"loss {custom.named(net.loss)}, {net.dtype}"


def _standing(net):
    """Whether it is trained, and what a fit would do."""
    if net.n_features is None:
        return "not built: the first fit finds the number of inputs"
    epochs = net.state.epoch
    if not epochs and np.array_equal(
        net.state.parameters, starting_values(net.bound_layers, net.program, net.seed, net.dtype)
    ):
        return "not trained: the weights are those that it starts with"
    trained = f"trained for {epochs:,} epoch{'s' if epochs > 1 else ''}" if epochs else "trained"
    return f"{trained}: the next fit goes on from here, and after reset() from the start"
