"""What files say that the registry should be: read with places, in one form with what is registered, and judged."""
