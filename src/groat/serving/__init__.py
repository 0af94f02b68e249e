"""`groat serve` without the command line: look, listen, accept, and run the workers."""
