"""``python -m finemask VERB …``, the same thing as ``finemask VERB …``."""

import sys

from finemask.cli import main

if __name__ == "__main__":
    sys.exit(main())
