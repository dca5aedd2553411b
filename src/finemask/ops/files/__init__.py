"""Files: written whole or not at all, read with an answer for each fault, and folders of runs."""
