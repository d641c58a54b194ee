"""A party's side of the coordinator's calls: runs, attempts, and idempotent answers."""
