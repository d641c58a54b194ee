"""Results and the machine they were measured on: rows with targets, the table, the JSON file and the plots."""
