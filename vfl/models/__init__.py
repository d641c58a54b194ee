"""Bottom models, the Lipschitz-constrained top model and tasks: plain ``nn.Module`` code, no network, no encryption."""
