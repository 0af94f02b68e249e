"""Each adapter in a real server of its framework, asked the same over real sockets."""
