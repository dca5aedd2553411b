"""Datasets in other tools' formats, read into one small structure and written from it: one file a format.

``conversion.convert`` is the door, with the table of formats; ``records`` has the structure in the middle.
"""
