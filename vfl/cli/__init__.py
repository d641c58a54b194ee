"""The ``vfl`` command."""
