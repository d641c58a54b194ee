"""Which job a party serves, run after run, and its own record of them."""
