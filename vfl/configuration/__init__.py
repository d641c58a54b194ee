"""Reading TOML files into validated models, and federation.toml."""
