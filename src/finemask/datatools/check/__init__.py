"""The rules of ``finemask data check``, one module a subject; each ends with a tuple ``RULES``."""
