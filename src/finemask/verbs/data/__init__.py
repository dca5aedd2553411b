"""The verbs of ``finemask data``."""
