"""Every store keeps the same promises."""
