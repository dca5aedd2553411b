"""The same as ``finemask train key=value …``."""

import sys

from finemask.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
