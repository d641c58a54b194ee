"""Reads TOML files into validated models, and defines federation.toml."""
