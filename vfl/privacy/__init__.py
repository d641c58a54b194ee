"""Privacy mechanisms that need no encryption scheme: key agreement and masks that cancel over the parties."""
