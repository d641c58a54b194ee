"""What crosses a connection: codecs, limits, errors, and the recorder of every message."""
