"""Artefacts for other runtimes, and the proof that they find what the model finds."""
