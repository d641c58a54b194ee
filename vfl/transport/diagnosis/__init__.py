"""What a process finds out about another one outside of a job: whether it can be reached, and what it runs."""
