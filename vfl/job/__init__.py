"""The job file, its schedule of steps, and the policy with which a party accepts or refuses it."""
