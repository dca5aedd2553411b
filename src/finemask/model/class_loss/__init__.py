"""Classification losses of the box head; one file a variant."""
