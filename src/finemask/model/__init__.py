"""From (image, Target) to losses or Detections."""
