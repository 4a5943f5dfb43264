"""The command ``rps`` itself. Exit status 0 = done, 1 = found problems, 2 = wrong use."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from rps_utils.cli.data import check_command, ingest_command, public
from rps_utils.cli.errors import ended_by_signals, explain, make_printable
from rps_utils.cli.lab import phantom_command, study
from rps_utils.cli.options import Group
from rps_utils.cli.run import audit_command, evaluate_command, predict_command, recalibrate_command, run_command

SIGPIPE = 13
CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}


@click.group("rps", cls=Group, context_settings=CONTEXT)
def rps() -> None:
    """Turn CT, masks and a clinical table into models of local recurrence, evaluated.

    Exit status: 0 = done, 1 = found problems, 2 = wrong use.
    """


for command in (
    *(phantom_command, run_command, evaluate_command, predict_command, recalibrate_command, study),
    *(ingest_command, public, check_command, audit_command),
):
    rps.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; nothing that a user can do ends in a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Every process that is started: a `random.py` in the working folder must not be imported.
    os.environ["PYTHONSAFEPATH"] = "1"
    make_printable()
    with ended_by_signals():
        sys.exit(run_command_line(given))


def run_command_line(given: list[str]) -> int:
    """Do what is asked, say what went wrong, and return the exit status."""
    try:
        with rps.make_context("rps", list(given)) as context:
            status = rps.invoke(context)
        sys.stdout.flush()
        return status or 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output (`| head`) has enough; the interpreter would complain of it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + SIGPIPE
    except BaseException as error:
        if "--debug" in given:
            traceback.print_exception(error)
        told = explain(error)
        click.echo(f"rps: {told.line}", err=True)
        return told.status
