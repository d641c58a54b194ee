"""What every process needs at run time: memory, progress, randomness, durable files, helper processes, logs."""
