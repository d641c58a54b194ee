"""Tables: loading, schema, preprocessing, splits and batch order."""
