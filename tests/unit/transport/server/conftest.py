from support.fixtures.servers import *  # noqa: F403
