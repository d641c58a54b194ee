"""What a run discloses, measured by attacks on it: ``python -m benchmarks.privacy --data FOLDER``."""
