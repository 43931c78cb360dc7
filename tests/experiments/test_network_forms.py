from dataclasses import replace

import pytest

from indeed.experiments.network_forms import FORMS, compare_forms, relative_cost
from indeed.networks.inference_network import NetworkConfig, network_preset
from indeed.record import read


def test_paper_form_takes_every_choice_back_to_the_default():
    network, reference = replace(network_preset("cpu", 1), **FORMS[-1].change), NetworkConfig()
    for name in ("norm", "factor_halving", "sparse_unshuffle", "sparse_input", "sparse_output"):
        assert getattr(network, name) == getattr(reference, name)
    single = [form for form in FORMS if len(form.change) == 1]
    assert {key: value for form in single for key, value in form.change.items()} == FORMS[-1].change


def test_comparison_records_each_form_and_continues(tmp_path):
    options = {"preset": "tiny", "steps": 3, "data": "embedded", "records": tmp_path, "progress": False}
    compare_forms(tmp_path / "runs", names=("preset", "group_norm"), **options)
    assert len(list((tmp_path / "runs").iterdir())) == 2
    before = (tmp_path / "runs" / "preset" / "log.csv").read_bytes()
    compare_forms(tmp_path / "runs", **options)
    assert (tmp_path / "runs" / "preset" / "log.csv").read_bytes() == before
    recorded = read(tmp_path / "smoke" / "network_forms.csv")
    assert {f"{figure}_{form.name}" for form in FORMS for figure in ("psnr", "cost", "parameters")} <= recorded.keys()
    assert recorded["psnr_preset"].value != recorded["psnr_group_norm"].value


def test_an_unknown_form_is_named(tmp_path):
    with pytest.raises(ValueError, match="fast"):
        compare_forms(tmp_path, names=("fast",))


def test_a_wider_network_costs_more():
    base = replace(network_preset("tiny", 1), patch_size=64)
    assert relative_cost(replace(base, sparse_width=64), base, batch=4) > 1
