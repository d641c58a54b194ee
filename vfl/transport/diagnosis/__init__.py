"""What a process finds out about another one outside of a job: whether it is reachable, and what it runs."""
