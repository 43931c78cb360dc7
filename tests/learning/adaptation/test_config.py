from dataclasses import replace

import pytest
from jaxtyping import TypeCheckError

from indeed.learning.adaptation.config import AdaptationConfig, adaptation_preset
from indeed.learning.adaptation.stopping import LowestFreeEnergy


@pytest.mark.parametrize("name", ["paper", "replay"])
@pytest.mark.parametrize("stop", [None, LowestFreeEnergy()])
def test_the_presets_cost_at_most_five_forward_passes_a_step_with_a_stopping_rule_too(name, stop):
    assert replace(adaptation_preset(name), stop=stop).forwards_per_step <= 5


def test_another_preset_is_refused_by_name():
    with pytest.raises((ValueError, TypeCheckError), match="name"):
        adaptation_preset("best")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modules": "A"}, "modules"),
        ({"objective": "tent"}, "objective"),
        ({"noise": "row"}, "noise"),
        ({"steps": 0}, "steps: got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"replay_weight": -1.0}, "replay_weight: got -1.0"),
        ({"leak": 1.0}, "leak: got 1.0"),
        ({"neighbourhood": 4}, "neighbourhood: got 4"),
        ({"objective": None}, "nothing is minimised"),
    ],
)
def test_a_configuration_out_of_range_is_refused_by_name(changes, message):
    # Under pytest a name outside a Literal is already a fault of its type.
    with pytest.raises((ValueError, TypeCheckError), match=message):
        AdaptationConfig(**changes)
