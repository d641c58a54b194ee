"""The interaction layer: the encrypted protocol, and the same in plaintext, each step a pure local function."""
