"""Version of the package, and of the protocol between parties."""

from importlib.metadata import version

PACKAGE_VERSION = version("vfl")
PROTOCOL_VERSION = "4.2"
"""Parties of one job speak the same one. It changes with every change of the messages, and of anything by which the
same job, tables and seeds give another model: initial weights, rounding, encodings, noise, schedule."""
