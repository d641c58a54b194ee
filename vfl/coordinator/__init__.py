"""The coordinator: leads the parties through a run, monitors them, and recovers from interruptions."""
