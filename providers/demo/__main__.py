"""`python -m providers.demo`: the demo provider without Django, for whoever starts it often."""

import sys

from providers.demo.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
