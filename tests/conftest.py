"""Settings for all tests."""

import torch

# Test workers and the processes they start share the machine; more threads each would only wait for one another.
torch.set_num_threads(1)
