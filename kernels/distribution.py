"""The name by which pip installs what holds these kernels; `fastnn` on the package index is another program."""

DISTRIBUTION = "fastnn-numba"


def pip_install(extra):
    """The command that installs this package with one of its extras."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
