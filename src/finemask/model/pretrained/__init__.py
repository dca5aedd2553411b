"""Transfer learning: pretrained weights, rows of their classes, and what of a model is trained."""
