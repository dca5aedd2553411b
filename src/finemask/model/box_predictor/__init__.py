"""Box features to class logits and box deltas; one file a variant."""
