"""Why detections are wrong, where objects are missed, and what would help; all read off the match table."""
