"""The party side of the coordinator's calls: runs, attempts, and idempotent replies."""
