"""The ``promptzoo`` command and its sub-commands."""
from __future__ import annotations

import typer

from promptzoo import __version__
from promptzoo.cli import (
    bench,
    bundles,
    catalog,
    consensus,
    detect,
    doctor,
    export,
    learn,
    segment,
    self_train,
    serve,
    study,
    train,
    weights,
    words,
)
from promptzoo.cli.batch.command import batch
from promptzoo.cli.common import EXIT_CODES, Group, flowing, set_up_logging
from promptzoo.cli.federate.command import federate
from promptzoo.cli.loop.command import simulate_loop

app = typer.Typer(
    name="promptzoo", cls=Group, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]},
    help="Every way of prompting a medical-imaging model. Not a medical device.")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"promptzoo {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Say which choices are made, and why."),
    debug: bool = typer.Option(False, "--debug", help="Tracebacks instead of one-line errors."),
) -> None:
    set_up_logging(verbose)


app.add_typer(bundles.app, name="bundles")
app.add_typer(weights.app, name="weights")
app.add_typer(train.app, name="versions")
app.add_typer(learn.app, name="learned")
for _command in (catalog.catalog, segment.segment, detect.detect, bench.bench, study.study, train.train, export.export,
                 doctor.doctor, serve.serve, words.words, learn.learn, self_train.self_train, batch, simulate_loop,
                 federate, consensus.consensus):
    app.command(_command.__name__.replace("_", "-"), help=flowing(_command.__doc__), epilog=EXIT_CODES)(_command)
