"""The text of an object: the call that makes it anew."""

import inspect

from .errors import quoted


def call(thing, **first):
    """The call of a class: what must be given, and what is not the default.

    Parameters
    ----------
    thing : object
        With an attribute for each parameter that is to be shown.
    **first
        What is shown without its name and even if it is the default, by the name of the parameter.

    Returns
    -------
    str
        Such as "SGD(0.1, momentum=0.9)".
    """
    parts = []
    for name, parameter in inspect.signature(type(thing)).parameters.items():
        value = first.get(name, getattr(thing, name, parameter.default))
        if name in first or parameter.default is parameter.empty is not value:
            parts.append(_value(value))
        elif _value(value) != _value(parameter.default):  # by their texts: arrays have no single answer to !=
            parts.append(f"{name}={_value(value)}")
    return f"{type(thing).__name__}({', '.join(parts)})"


def _value(value):
    return f"{value:g}" if isinstance(value, float) else quoted(value)
