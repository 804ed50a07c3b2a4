"""The version of fastnn, read by the build as well."""

__version__ = "0.1.0"
