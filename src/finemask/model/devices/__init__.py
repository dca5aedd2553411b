"""What each kind of device computes another way, with the same values."""
