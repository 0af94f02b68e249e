"""What is configured: the table of settings, the file, and the parts that are opened by them."""
