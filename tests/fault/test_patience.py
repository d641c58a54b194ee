"""A party does not take the coordinator for gone while it, or another party, works on a call of the coordinator."""

import asyncio
import time

from support.federation import ACTIVE
from support.recovering import run_here, small_federation

from vfl.train import roles

LOADING_SECONDS = 7.0


def test_a_table_that_takes_longer_to_load_than_a_coordinator_may_be_silent_stops_nothing(tmp_path, monkeypatch):
    load = roles.load_table

    def slowly(config, *args, **kwargs):
        if config.path.parent.name == ACTIVE:
            time.sleep(LOADING_SECONDS)
        return load(config, *args, **kwargs)

    monkeypatch.setattr(roles, "load_table", slowly)
    federation = small_federation(tmp_path, epochs=1)
    federation.job["deadlines"] |= {"silence": 5.0, "absence": 0.0}
    ended = asyncio.run(run_here(federation.write()))
    assert ended.errors == dict.fromkeys(ended.errors)
    assert ended.seconds > LOADING_SECONDS
