"""`python -m meta_lr` is `meta-lr`."""

import sys

from meta_lr.cli.main import main

sys.exit(main())
