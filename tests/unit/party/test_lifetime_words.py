"""What a party says when its process is shut down depends on whether a run had begun."""

import pytest

from vfl.job.tables import TimeoutConfig
from vfl.party.service.attempt import Attempt
from vfl.party.service.lifetime import Lifetime


@pytest.mark.parametrize(("begun", "remedy"), [(False, "restart it"), (True, "restart it: the run waits for it")])
async def test_a_run_waits_only_if_it_had_begun(begun, remedy):
    attempt = Attempt("job-1", 0) if begun else None
    lifetime = Lifetime(TimeoutConfig(), lambda: attempt, lambda error: None, keep_serving=False)
    lifetime.go_away()
    error = await lifetime.outcome
    assert error.remedy.startswith(remedy)
    assert begun or "waits" not in str(error)
