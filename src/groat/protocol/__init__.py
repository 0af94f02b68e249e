"""The rules: values in, a value or a refusal out. No clock, disk, network, logging, randomness or framework."""
