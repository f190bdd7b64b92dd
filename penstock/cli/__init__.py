"""The command line: the one room on top of the house. Nothing imports it.

Every command imports what it needs inside its function, so that `penstock --help` pays for Typer and rich alone.
"""


def main() -> None:
    """Run the command that the arguments name. The process ends with its exit code."""
    from penstock.cli.app import run_command_line

    run_command_line()
