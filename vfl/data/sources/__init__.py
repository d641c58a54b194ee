"""Reading a party's table from CSV and Parquet files."""
