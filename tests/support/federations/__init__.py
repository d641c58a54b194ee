"""Whole small federations: their files, their processes or tasks, and what stands in their directories."""
