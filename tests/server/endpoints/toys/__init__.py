"""Features that nobody asked for, one file each: whether the tables are open is seen by adding them."""
