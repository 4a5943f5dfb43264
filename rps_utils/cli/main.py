"""The command ``rps`` itself. Exit status 0 = done, 1 = found problems, 2 = wrong use."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from rps_utils.cli.data import check_command, ingest_command, public
from rps_utils.cli.lab import phantom_command, study
from rps_utils.cli.options import Group
from rps_utils.cli.run import audit_command, evaluate_command, predict_command, run_command

SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}


@click.group("rps", cls=Group, context_settings=SETTINGS)
def rps() -> None:
    """Turn CT, masks and a clinical table into models of local recurrence, evaluated.

    Exit status: 0 = done, 1 = found problems, 2 = wrong use.
    """


for command in (
    *(phantom_command, run_command, evaluate_command, predict_command, study),
    *(ingest_command, public, check_command, audit_command),
):
    rps.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with rps.make_context("rps", given) as context:
            status = rps.invoke(context)
    except click.exceptions.Exit as done:
        status = done.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        from rps_utils.runs.steps import UsageError

        print(f"rps: {error}", file=sys.stderr)
        status = 2 if isinstance(error, UsageError) else 1
    sys.exit(status or 0)
