"""`python -m studio`: the window, the command line, or a worker process. Imports nothing before it must."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the studio. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # First of all, so that a frozen build starts its workers with the same program, and a worker loads no command line.
    if arguments[:1] == ["--worker"]:
        from studio.runtime import worker

        return worker.main()
    if arguments[:1] == ["--look"]:
        from studio.models import look_program

        return look_program.main()
    if arguments[:1] == ["--render-template"]:
        from studio.engines.text import render_template

        return render_template.main()
    if arguments in ([], ["window"]):  # without the command line, which it would have to load first
        from studio.app.home import default_home
        from studio.ui import app

        return app.main(default_home())
    from studio import cli

    return cli.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
