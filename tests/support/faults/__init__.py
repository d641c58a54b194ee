"""Runs that are killed, stopped, slowed, starved or cut off, and what must come of them."""
