"""`python -m pipelines` is `plantwatch`."""

import sys

if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036  # an older Python must be told so, not shown an ImportError
        sys.exit("plantwatch: Python " + sys.version.split()[0] + " runs, expected 3.11 to 3.13; `make env` finds one")
    from pipelines.cli import main

    main()
