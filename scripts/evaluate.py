"""The same as ``finemask evaluate key=value …``."""

import sys

from finemask.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
