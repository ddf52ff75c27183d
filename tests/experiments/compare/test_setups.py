"""Which setups a comparison has."""

import pytest
from helpers import ONCE

from stm_keras.config import load_config
from stm_keras.errors import UsageError
from stm_keras.experiments.compare.measure import scored_setups
from stm_keras.experiments.compare.records import default_references, plan_setups

pytestmark = ONCE  # no backend changes what is tested here


def test_setups_are_all_variants_and_names_say_which():
    setups = plan_setups(
        ["jax", "torch"], ["float32", "mixed_bfloat16"], ["auto", "true"], ["native"]
    )
    assert [setup.name for setup in setups] == [
        *("jax", "torch", "jax jit", "torch jit"),
        *("jax bf16", "torch bf16", "jax bf16 jit", "torch bf16 jit"),
        *("native", "native jit", "native bf16", "native bf16 jit"),
    ]
    assert setups[6].slug == "jax-bf16-jit"


def test_a_reference_is_compiled_only_where_that_is_asked_for():
    jits = {"auto": ["native"], "true": ["native jit"], "eager": ["native"]}
    for jit, names in jits.items():
        setups = plan_setups([], ["float32"], [jit], ["native"])
        assert [setup.name for setup in setups] == names


def test_each_backend_and_precision_is_scored_once():
    setups = plan_setups(["jax"], ["float32"], ["true", "eager"], ["native"])
    assert [setup.name for setup in scored_setups(setups)] == ["jax jit"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["mxnet"], ["float32"], ["auto"]), r"`--backends`: unknown 'mxnet'. Known: tens"),
        (
            (["jax"], ["half"], ["auto"]),
            r"`--precision`: unknown 'half'. Known: float32, mi",
        ),
        (
            (["jax"], ["float32"], ["yes"]),
            r"`--jit`: unknown 'yes'. Known: auto, true, fal",
        ),
        (
            (["jax"], ["float32"], ["auto"], ["tf"]),
            r"`--reference`: unknown 'tf'. Known: na",
        ),
        (([], ["float32"], ["auto"]), r"Nothing to compare. Give --backends"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        plan_setups(*arguments)


def test_references_are_those_installed_and_only_of_a_network_they_have():
    vit = load_config(settings=["model.name=vit"]).model
    assert default_references(vit, lambda name: name == "timm") == ["timm"]
    assert default_references(vit, lambda name: True) == ["native", "timm"]
    conv = load_config(settings=["model.name=vit", "model.tokenizer=conv"]).model
    assert default_references(conv, lambda name: True) == []
    assert default_references(load_config().model, lambda name: True) == []
