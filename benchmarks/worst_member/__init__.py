"""What one member that does its worst costs the others, compared with a plain spinner of the same processor share."""
