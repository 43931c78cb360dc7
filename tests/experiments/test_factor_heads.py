import pytest

from indeed.experiments.factor_heads import FORMS, MEANINGS, TABLE


@pytest.mark.slow
def test_every_form_has_a_meaning_and_learned_heads_lie_between_a_constant_and_the_best_of_their_rank(tmp_path):
    assert set(FORMS) < set(MEANINGS)
    forms = ("constant", "both", "cosine_series", "svd")
    rows = {form: TABLE.cell(form, profile="smoke", runs=tmp_path)[0] for form in forms}
    constant, both, series, best = (float(rows[form]["psnr"]) for form in forms)
    assert constant < both < series < best
    assert [float(rows[form]["steps"]) for form in forms] == [0, 60, 0, 0]


def test_another_form_is_refused(tmp_path):
    with pytest.raises(ValueError, match="form: got 'fourier', expected one of constant, mean_only"):
        TABLE.cell("fourier", profile="smoke", runs=tmp_path)
