"""The disclosure ledger: how often each row of a party has been released under noise, over all its runs."""
