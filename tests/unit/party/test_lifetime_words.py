"""What a party says when its process is shut down, or when the coordinator has stopped its run."""

import pytest
from support.logs import captured_logs, logged

from vfl.errors import CheckpointError, JobAborted, RangeError
from vfl.job.tables import TimeoutConfig
from vfl.messages import Abort
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


@pytest.mark.parametrize(
    ("own", "code", "ends_with"),
    [
        (CheckpointError("the disk is full"), "aborted", JobAborted),  # the run would have survived it
        (CheckpointError("the disk is full"), "checkpoint", CheckpointError),
        (RangeError("a value is too large"), "aborted", RangeError),
    ],
)
async def test_a_failed_checkpoint_is_not_what_a_later_stop_is_put_down_to(own, code, ends_with):
    attempt = Attempt("job-1", 0)
    attempt.error = own
    lifetime = Lifetime(TimeoutConfig(), lambda: attempt, lambda error: None, keep_serving=False)
    with captured_logs() as logs:
        lifetime.aborted(Abort("job", "job-1", 0, "coordinator", code, "stopped by the operator of the coordinator"))
    assert isinstance(await lifetime.outcome, ends_with)
    assert own.summary in logged(logs) or ends_with is type(own), "whoever started the party shows what it ends with"
