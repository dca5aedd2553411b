"""Cutting large images and their instances into overlapping tiles, and the way back."""
