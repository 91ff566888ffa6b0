"""Whether there is time for everything, as in `make abuse`, or for a part, as in `make test`."""

import os

IS_THOROUGH = "THOROUGH" in os.environ
