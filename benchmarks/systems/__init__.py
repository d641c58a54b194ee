"""Sections (c), (e) and (f): real processes of the parties on this machine, over mutual TLS."""
