"""Floor 7: the ``promptzoo`` command. One module per command; heavy packages are imported inside the commands."""
from __future__ import annotations

import sys
import warnings


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Args:
        arguments: what follows ``promptzoo``; the process's own arguments if None.
    """
    from promptzoo.cli.app import app
    from promptzoo.cli.common import UNEXPECTED, say_error, wants_debug

    given = sys.argv[1:] if arguments is None else arguments
    if wants_debug(given):
        app(args=given, prog_name="promptzoo")
        return
    warnings.simplefilter("ignore")  # of torch, MONAI and others; people who debug see them
    try:
        app(args=given, prog_name="promptzoo")
    except BrokenPipeError:  # promptzoo catalog | head
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:  # a defect: the promised one line instead of a traceback
        say_error(f"unexpected {type(error).__name__}: {error}. Run again with --debug for the traceback.")
        sys.exit(UNEXPECTED)
