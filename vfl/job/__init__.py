"""The job file, its schedule of steps, callbacks, and the policy by which a party accepts or refuses a job."""
