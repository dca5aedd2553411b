"""From Detections or a results file to numbers and a report."""
