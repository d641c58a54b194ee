"""Vertical federated learning with an exact, homomorphically encrypted interaction layer."""
