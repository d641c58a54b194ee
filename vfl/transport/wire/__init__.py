"""What crosses a connection: codecs, limits, errors, and records of every message."""
