"""What other people test with."""
