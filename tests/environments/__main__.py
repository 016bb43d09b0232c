"""Build the environments named on the command line, or all."""

import sys

from tests.environments import NAMES, EnvironmentMissingError, ensure

try:
    for name in sys.argv[1:] or NAMES:
        print(f"{name}: {ensure(name)}", flush=True)
except EnvironmentMissingError as error:
    sys.exit(str(error))
