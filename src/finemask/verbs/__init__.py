"""One file a verb; ``finemask data check`` is ``data/check.py``.

``main(cfg)`` gets the composed configuration, calls one function and prints. It returns the exit code: 0, where nothing
else is said.
"""
