"""`python -m cli` is `tollwatch`."""

import sys

from cli.main import main

sys.exit(main())
