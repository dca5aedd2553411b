"""From COCO files to (image, Target)."""
