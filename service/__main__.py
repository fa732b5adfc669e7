"""The start of ``python -m service``: listens for SIGTERM and SIGINT, and then imports the rest."""

from service import stop_signals


def main() -> None:
    """Run the command line."""
    stop_signals.listen()
    from service import commands  # noqa: PLC0415 - takes most of a second, in which a signal must not be lost

    commands.main()


if __name__ == "__main__":
    main()
