"""Which rows take part, and which of them train: aligned ids, and the split."""
