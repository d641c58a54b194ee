"""The interaction layer: a plaintext oracle and the encrypted protocol, each step a pure local function."""
