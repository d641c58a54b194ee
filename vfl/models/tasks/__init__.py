"""Tasks: labels as numbers, the loss, and metrics."""
