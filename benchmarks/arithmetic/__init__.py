"""Sections (a), (b) and (d): arithmetic of all parties in one process, beside that of other schemes."""
