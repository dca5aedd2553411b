"""Checking, repairing, converting, splitting, describing and tiling datasets before anything is trained on them."""
