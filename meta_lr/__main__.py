"""`python -m meta_lr` runs the command `meta-lr`."""

import sys

from meta_lr.cli.main import main

sys.exit(main())
