"""Sections (a), (b) and (d): arithmetic of all parties in one process, compared with other schemes."""
