"""Box features to class logits and box deltas."""
