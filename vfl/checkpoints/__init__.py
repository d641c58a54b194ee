"""A party's checkpoints on disk: format, encryption at rest, and lookup."""
