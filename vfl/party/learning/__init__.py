"""A party's rows, bottom and top models, and their snapshots for checkpoints."""
