"""Diagnosis before a run: what members find out about themselves and each other."""
