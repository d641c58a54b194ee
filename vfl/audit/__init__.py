"""Audit logs: written by every process, verified, summarized and compared."""
