"""Jobs: configuration, the coordinator's state machine, the active and the passive party, metrics and saved models."""
