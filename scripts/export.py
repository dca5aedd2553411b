"""The same as ``finemask export key=value …``."""

import sys

from finemask.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
