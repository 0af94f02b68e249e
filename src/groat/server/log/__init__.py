"""What is told of that which happens: event lines, the audit of requests and operations, and counts."""
