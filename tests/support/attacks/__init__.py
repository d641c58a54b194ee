"""What an attacker computes from what it has seen, and statistics of what looks random."""
