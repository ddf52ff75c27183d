"""`python -m stm_keras` is `stm-keras`."""

from stm_keras.cli.main import main

if __name__ == "__main__":
    main(prog_name="stm-keras")
