"""COCO's matching and the numbers made from it."""
