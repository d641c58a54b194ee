"""The coordinator's record of its runs, in SQLite."""
