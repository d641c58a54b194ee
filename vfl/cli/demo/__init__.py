"""``vfl demo``: a whole federation on one machine, next to what each side could do without it."""
