"""Connections to a party without a port: passed on by a party that has one, and opened from the inside."""
