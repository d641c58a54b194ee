"""Settings for all tests."""

import torch
from hypothesis import settings

from vfl.transport.tls.version import require_tls_1_3

require_tls_1_3()  # as the processes of the command line do

# Test workers and the processes they start share the machine; more threads each would only wait for one another.
torch.set_num_threads(1)
# For the same reason an example may take long; pytest's own timeout ends what hangs.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
