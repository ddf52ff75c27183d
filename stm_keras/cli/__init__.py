"""The command line: each command says what it does and calls the package."""
