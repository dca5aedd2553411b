"""Labelling tools that ask a model: Label Studio over HTTP, CVAT by a function."""
