"""Datasets in other tools' formats, read into one small structure and written from it: one file a format.

``run.convert`` is the door. ``records`` has the structure in the middle, ``formats`` the list of formats,
``detect`` tells which one a folder holds.
"""
