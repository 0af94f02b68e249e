"""What is known of clients and keys while serving: read from the store, fetched from publishers, kept in memory."""
