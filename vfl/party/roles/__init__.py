"""The phases of a step at an active and at a passive party, and saving the trained parts."""
