from helpers import *


def test_x(trained_run):
    print((trained_run/"evaluation.json").read_text()[:300], list(trained_run.iterdir()))
