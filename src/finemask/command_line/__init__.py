"""The grammar of the command line and what it prints: overrides, help pages, errors, several runs in a row."""
