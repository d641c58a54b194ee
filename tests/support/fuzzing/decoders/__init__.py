"""What is fuzzed, by the kind of decoder."""
