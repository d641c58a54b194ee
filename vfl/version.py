"""Version of the package, and of the protocol between parties."""

from importlib.metadata import version

PACKAGE_VERSION = version("vfl")
PROTOCOL_VERSION = "4.0"
"""Parties of one job speak the same one."""
