"""Detections or a results file beside the ground truth: COCO's numbers, an error analysis, confidence intervals."""
