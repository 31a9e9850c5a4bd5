"""`python -m seq2seq_distill` is the `distill` command."""

import sys

from seq2seq_distill.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
