"""How good joint models with default settings are, beside centralized models on the joined tables."""
