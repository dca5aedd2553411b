"""Dividing a dataset into parts: classes in proportion, groups whole."""
