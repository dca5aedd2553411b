"""Labels that a model's detections contradict: found, ranked, shown, and corrected where a person agrees."""
