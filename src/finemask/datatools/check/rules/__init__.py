"""The rules, by what they look at; each file ends with the tuple ``RULES`` of its own."""
