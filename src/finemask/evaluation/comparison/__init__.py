"""Two sets of detections on one ground truth: how far apart they are, and how sure that is."""
