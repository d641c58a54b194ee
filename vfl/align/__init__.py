"""Alignment: that all parties hold the same ids, and the order of rows that they all derive."""
