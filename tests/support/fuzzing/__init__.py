"""Fuzzing of every decoder of bytes that come from a peer or from a file (docs/fuzzing.md)."""
