"""Start the studio: `python3 run.py`. The first start sets up `.venv` beside this file; `--help` shows the rest.

Knows one thing: whether this Python is new enough. So it keeps to words that every Python reads, old ones included;
all else is in packaging/environment.py.
"""

import os
import sys

NEEDED = (3, 11)


def too_old(version):  # type: (tuple[int, ...]) -> str
    """The sentence for a Python that is too old; empty when it will do."""
    if tuple(version[:2]) >= NEEDED:
        return ""
    needed, found = [".".join(str(part) for part in number[:3]) for number in (NEEDED, version)]
    return "The studio needs Python %s or newer, and this is Python %s." % (needed, found)


def main():  # type: () -> int
    complaint = too_old(tuple(sys.version_info[:3]))
    if complaint:
        sys.stderr.write(complaint + "\n")
        return 2
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "packaging"))
    import environment

    return environment.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
