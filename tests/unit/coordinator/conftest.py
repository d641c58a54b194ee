from support.fixtures.parties import *  # noqa: F403
