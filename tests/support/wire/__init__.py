"""What crosses between members, as seen, sent or disturbed from outside: calls, certificates, bytes."""
