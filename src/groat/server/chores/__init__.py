"""What goes on beside the requests, for as long as a process lives."""
