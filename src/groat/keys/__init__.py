"""Keys at rest and in time: the signing key ring, custody of private keys, key files."""
