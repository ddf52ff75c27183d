"""`python -m stm_keras` is `stm-keras`."""


def run():
    """Run the command, and end in one line if Ctrl-C comes before it can handle it.

    So nothing is imported outside: the first modules take a tenth of a second.
    """
    try:
        from stm_keras.terminal import use_utf8

        use_utf8()
        from stm_keras.cli.main import main

        main(prog_name="stm-keras")
    except KeyboardInterrupt:
        import contextlib
        import os

        with contextlib.suppress(OSError):  # stderr may be closed
            os.write(2, b"Interrupted.\n")
        os._exit(130)


if __name__ == "__main__":
    run()
