from support.fixtures.ledgers import *  # noqa: F403
