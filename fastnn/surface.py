"""What users see of public names: short signatures in `help()`, and hints where a name is not known."""

import functools
import inspect
from types import ModuleType
from typing import TYPE_CHECKING

from .errors import unknown_argument, unknown_attribute

# A prediction of one row takes 3.6 us, and a look at its keywords would add 0.4.
_UNCHECKED = frozenset(("predict",))


def finish(module, names):
    """Give the functions and classes of a module short signatures, and let their errors give hints.

    Parameters
    ----------
    module : module
        Whose names they are; modules among them are finished, too.
    names : sequence of str
        What is public in it.
    """
    for name in names:
        thing = getattr(module, name)
        if isinstance(thing, ModuleType):
            finish(thing, thing.__all__)
        elif inspect.isfunction(thing):
            _shorten(thing)
        elif inspect.isclass(thing) and not issubclass(thing, BaseException | tuple):
            _finish_class(thing)


def _finish_class(kind):
    for base in kind.__mro__:
        for name, function in list(vars(base).items()) if base.__module__.startswith("fastnn.") else ():
            if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
                _finish_method(base, name, function)


def _finish_method(kind, name, function):
    if not hasattr(function, "__signature__"):  # else it is that of a base of several classes
        _shorten(function)
        parameters = function.__signature__.parameters.values()
        by_name = name == "__init__" or any(parameter.default is not parameter.empty for parameter in parameters)
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if by_name and not anything and name not in _UNCHECKED:
            setattr(kind, name, _checked(function))


def _shorten(function):
    """Let `help()` show names and defaults: what each parameter may be, the docstring tells."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    function.__signature__ = signature.replace(parameters=bare, return_annotation=signature.empty)


def _checked(function):
    """The function, which refuses keywords that it does not take by an error with a hint."""
    names = [name for name in function.__signature__.parameters if name != "self"]
    taken, shown = frozenset(names), function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def checked(*args, **keywords):
        if not taken.issuperset(keywords):
            raise unknown_argument(shown, next(name for name in keywords if name not in taken), names)
        return function(*args, **keywords)

    return checked


class Hinting:
    """Base of classes that say what an attribute of other libraries is called here."""

    if not TYPE_CHECKING:  # to a type checker it would say that there is every attribute

        def __getattr__(self, name):
            if hasattr(type(self), name):  # a property that failed: its own error
                return object.__getattribute__(self, name)
            known = () if name.startswith("_") else [one for one in dir(self) if not one.startswith("_")]
            raise unknown_attribute(f"a {type(self).__name__}", name, known)
