"""How requests leave this machine: clocks for their deadlines, connecting, and whose certificates count."""
