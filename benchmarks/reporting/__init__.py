"""What was measured and on what: rows with their targets, the table, the JSON file, and the plots."""
