"""Interaction layers and exchanges of several parties in one process, without any transport."""
