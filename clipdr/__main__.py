"""The verbs: files in, pure function, files out. Every rule of the workflow is one of these lines; heavy imports stand inside the verb."""

import sys

from clipdr import DataError, warm
from clipdr.verbs import app, data, fitting, reporting

__all__ = ["app", "data", "fitting", "guarded", "main", "reporting"]


def guarded(verbs):
    """Run a verb of some app; bad input is one line on stderr and exit status 2."""
    try:
        verbs()
    except DataError as error:
        print(f"{verbs.info.name}: {error}", file=sys.stderr)
        sys.exit(2)


def main():
    """Run a verb of this package, in the workflow's warm process where there is one."""
    status = warm.ask(sys.argv[1:])
    if status is None:
        guarded(app)
    sys.exit(status)


if __name__ == "__main__":
    main()
