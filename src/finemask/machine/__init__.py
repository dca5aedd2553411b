"""What this machine has, and which of its packages do not fit together."""
