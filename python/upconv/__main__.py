"""`python -m upconv` is the command `upconv`, for where the console script is not on the path."""

import sys

from upconv.cli import main

if __name__ == "__main__":
    sys.exit(main())
