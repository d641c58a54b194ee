"""Connections to a party without a port: relayed by a party that has one, and opened from the inside."""
