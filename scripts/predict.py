"""The same as ``finemask predict key=value …``."""

import sys

from finemask.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
