"""The entry point of ``python -m service``: installs signal handlers, then imports the rest."""

from service import stop_signals


def main() -> None:
    """Run the command line."""
    stop_signals.listen()
    from service.cli import main as cli  # noqa: PLC0415 - slow; the signal handlers must be installed before it

    cli.main()


if __name__ == "__main__":
    main()
