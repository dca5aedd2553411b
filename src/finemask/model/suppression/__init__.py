"""Which of several overlapping candidates are detections; one file a variant."""
