"""A party's process: its configuration and service, its role in a run, and its models."""
