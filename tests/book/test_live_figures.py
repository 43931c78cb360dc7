"""The live figures: their formulas are those of the library, and a page with them answers to its sliders."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import chapters
import generated
import pytest
import torch

from indeed.baselines.low_rank import optimal_shrinkage, truncated_svd
from indeed.baselines.robust_pca import stable_pursuit
from indeed.bayes.conjugate_updates import update_gamma
from indeed.bayes.generative_model import Hyperpriors, sparse_marginal_log_density
from indeed.bayes.middle_updates import update_factor
from indeed.bayes.variational_family import GaussianFactor
from indeed.figures import column_switch, pixel_posteriors
from indeed.figures.conjugate_updates import column_given_gamma
from indeed.images.noise import GREY_LEVEL

SCRIPT = chapters.BOOK / "_assets" / "live-figures.js"
NODE = shutil.which("node")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SIZE, SIGMA = 64, 25 * GREY_LEVEL
STRONG, WEAK = 555 * GREY_LEVEL, 330 * GREY_LEVEL


def page(folder, body, script):
    """Show a page in the browser and return what its body says at the end."""
    file = folder / "page.html"
    start = f"<script src='{SCRIPT.as_uri()}'></script><script>{script}</script>"
    file.write_text(f"<!doctype html><html><head><meta charset='utf-8'></head><body>{body}{start}</body></html>")
    flags = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --virtual-time-budget=2000 --dump-dom""".split()
    command = [CHROMIUM, *flags, f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return re.search("<pre>(.*)</pre>", shown)[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")


@pytest.fixture
def formulas(tmp_path):
    """Evaluate formulas of the script, each a name and its arguments, in one call of node or else of the browser."""
    if not (NODE or CHROMIUM):
        pytest.skip("neither node nor chromium installed")

    def evaluate(*calls):
        results = f"JSON.stringify({json.dumps(calls)}.map(([name, ...given]) => liveFormulas[name](...given)))"
        if not NODE:
            return json.loads(page(tmp_path, "<pre></pre>", f"document.body.firstChild.append({results})"))
        script = f"require({json.dumps(str(SCRIPT))}); process.stdout.write({results})"
        return json.loads(subprocess.run([NODE, "-e", script], capture_output=True, text=True, check=True).stdout)

    return evaluate


@pytest.mark.slow
def test_the_switch_is_that_of_the_library(formulas):
    gammas = [1e-3, 20.0, 300.0, 2e6]
    columns = [("columnGivenGamma", gamma, STRONG, SIGMA, SIZE) for gamma in gammas]
    by_library = column_given_gamma(torch.tensor(gammas, dtype=torch.float64), STRONG, SIGMA**-2, SIZE)
    torch.testing.assert_close(torch.tensor(formulas(*columns)).T.double(), torch.stack(by_library))

    hyperpriors = Hyperpriors()
    _, data = column_switch({"strong": STRONG, "weak": WEAK}, SIGMA**-2, SIZE, hyperpriors)
    for d, curves in zip((STRONG, WEAK), data.values(), strict=True):
        at = range(0, 2000, 199)
        halves = [float(curves["energy"][i]) / 2 for i in at]
        off = float(curves["stable"][0]) / 2
        rounds = formulas(*[("roundOfUpdates", half, d, SIGMA, SIZE) for half in halves])
        energies = formulas(*[("freeEnergyOfColumn", half, d, SIGMA, SIZE) for half in (off, *halves)])
        for i, half, after, energy in zip(at, halves, rounds, energies[1:], strict=True):
            assert after / half == pytest.approx(curves["growth"][i], rel=1e-9)
            assert energy - energies[0] == pytest.approx(curves["free energy"][i], abs=1e-6, rel=1e-9)
        # The library finds the resting points on a grid.
        resting = sorted([*curves["stable"], *curves["unstable"]])
        assert formulas(("restingPoints", d, SIGMA, SIZE))[0] == pytest.approx([e / 2 for e in resting], rel=0.02)


def test_a_column_can_be_on_from_the_threshold_on(formulas):
    (threshold,) = formulas(("switchThreshold", SIGMA, SIZE))
    below, above = formulas(*[("restingPoints", share * threshold, SIGMA, SIZE) for share in (0.999, 1.001)])
    assert (len(below), len(above)) == (1, 3)
    assert formulas(("columnSwitch", 0.999 * threshold, SIGMA, SIZE)) == [0]


@pytest.mark.slow
def test_strengths_are_those_of_the_library(formulas):
    size = 16
    d = torch.tensor([1.7, 1.3, 1.0, 0.83, 0.79, 0.5], dtype=torch.float64)
    (edge,) = formulas(("noiseEdge", SIGMA, size))
    assert 0.79 > edge > 0.5
    y = torch.diag_embed(torch.cat([d, torch.zeros(size - len(d), dtype=torch.float64)]))

    def strengths(rule):
        return torch.tensor(formulas(*[(rule, value, SIGMA, size) for value in d.tolist()]), dtype=torch.float64)

    def diagonal(matrix):
        return matrix.diagonal()[: len(d)]

    torch.testing.assert_close(strengths("truncation"), diagonal(truncated_svd(y, int((d > edge).sum()))))
    torch.testing.assert_close(strengths("optimalShrinkage"), diagonal(optimal_shrinkage(y, SIGMA)))
    # Its L pays sigma' sqrt(2n) from every singular value, where no pixel is worth a place in S.
    thresholded = stable_pursuit(y, 2**0.5 * SIGMA, sparsity_weight=100.0, tolerance=1e-9).L
    torch.testing.assert_close(strengths("softThreshold"), diagonal(thresholded), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_switch_keeps_what_the_updates_of_the_library_keep(formulas):
    size, weight = 16, torch.full((1, 1, 16, 16), SIGMA**-2, dtype=torch.float64)
    for d in (1.7, 1.0, 0.7):
        y = torch.zeros(1, 1, size, size, dtype=torch.float64)
        y[..., 0, 0] = d
        start = torch.zeros(1, 1, size, 1, dtype=torch.float64)
        start[..., 0, 0] = d**0.5
        A = B = GaussianFactor(start, torch.full_like(start, -6.0))
        for _ in range(400):
            gamma = update_gamma(A, B, Hyperpriors()).mean
            A = update_factor(y, A, B, gamma, weight)
            B = update_factor(y.mT, B, A, gamma, weight)
        strength = (A.mean.norm() * B.mean.norm()).item()
        assert formulas(("columnSwitch", d, SIGMA, size))[0] == pytest.approx(strength, abs=1e-3 * d)


@pytest.mark.parametrize(("sparse", "noise"), [(40, 20), (20, 40), (None, None)])
def test_the_pixel_is_that_of_the_library(formulas, sparse, noise):
    hyperpriors = Hyperpriors()
    if sparse:
        hyperpriors = Hyperpriors(omega_rate=2 * (sparse / 255) ** 2, lambda_rate=2 * (noise / 255) ** 2)
    rates = hyperpriors.omega_rate, hyperpriors.lambda_rate
    values = torch.tensor([-0.5, 0.0, 0.01, 0.3], dtype=torch.float64)
    density = sparse_marginal_log_density(values, hyperpriors)
    found, *penalties = formulas(
        ("pixelPosterior", 0.3, *rates), *[("penalty", value, rates[0]) for value in values.tolist()]
    )
    torch.testing.assert_close(torch.tensor(penalties, dtype=torch.float64), density[1] - density)
    _, data = pixel_posteriors(76.5, {"it": hyperpriors})
    s, p = (torch.from_numpy(data["it"][name]) for name in ("s", "density"))
    mean = torch.trapezoid(p * s, s)
    sd = torch.trapezoid(p * (s - mean) ** 2, s).sqrt()
    assert 255 * found["mean"] == pytest.approx(mean.item(), abs=1e-3)
    assert 255 * found["sd"] == pytest.approx(sd.item(), rel=1e-3)
    assert len(found["peaks"]) == (1 if sparse else 2)
    top = max(zip(found["density"], found["grid"], strict=True))[1]
    assert 255 * top == pytest.approx(s[p.argmax()].item(), abs=0.5)


def test_the_prior_is_that_of_the_library():
    shape, rate = re.search(r"PRIOR = \{ shape: (\S+), rate: (\S+) \}", SCRIPT.read_text(encoding="utf-8")).groups()
    prior = Hyperpriors()
    assert {prior.gamma_shape, prior.omega_shape, prior.lambda_shape} == {float(shape)}
    assert {prior.gamma_rate, prior.omega_rate} == {float(rate)}


def test_only_a_page_with_a_live_figure_loads_the_script():
    loaded = []
    app = SimpleNamespace(add_js_file=lambda name, **options: loaded.append(name))
    for body in ("<p>A live-figure is named.</p>", '<div class="live-figure" data-figure="pixel"></div>'):
        generated.live_figures(app, "page", "page.html", {"body": body}, None)
    generated.live_figures(app, "search", "search.html", {}, None)
    assert loaded == [SCRIPT.name]


@pytest.mark.parametrize("chapter", chapters.pages(), ids=lambda chapter: chapter.stem)
def test_the_places_of_a_page_are_known_to_the_script(chapter):
    figures = re.search(r"const figures = \{(.*)\}", SCRIPT.read_text(encoding="utf-8"))[1]
    known = set(re.findall(r"(\w+):", figures))
    assert known == {"switch", "pixel", "strength"}
    text = chapter.read_text(encoding="utf-8")
    places = re.findall(r'<div class="live-figure" data-figure="(\w+)">', text)
    assert len(places) == text.count("live-figure")
    assert set(places) <= known


@pytest.mark.skipif(not CHROMIUM, reason="no chromium installed")
def test_a_figure_answers_to_its_sliders_and_buttons(tmp_path):
    names = ("switch", "pixel", "strength")
    places = "".join(f"<div class='live-figure' data-figure='{name}'>x</div>" for name in names)
    script = """
      const say = () => [...document.querySelectorAll('[aria-live=polite]')].map((one) => one.textContent);
      const said = [say()];
      for (const input of document.querySelectorAll('.live-figure input')) {
        input.value = Number(input.min) + 0.65 * (input.max - input.min);
        input.dispatchEvent(new Event('input', {bubbles: true}));
      }
      said.push(say());
      for (const button of document.querySelectorAll('.live-figure button')) button.click();
      said.push(say());
      const named = [...document.querySelectorAll('.live-figure svg[role], .live-figure input, .live-figure[role]')]
        .filter((one) => document.getElementById(one.getAttribute('aria-labelledby')).textContent).length;
      document.body.firstChild.append(JSON.stringify([said, named]));
    """
    # The script starts the figures when the page stands: so does what follows it.
    script = f"document.addEventListener('DOMContentLoaded', () => {{ {script} }})"
    (first, moved, pressed), named = json.loads(page(tmp_path, f"<pre></pre>{places}", script))
    assert all(a != b for a, b in zip(first, moved, strict=True))
    assert [a != b for a, b in zip(moved, pressed, strict=True)] == [True, True, False]  # the last has no buttons
    assert named == 3 + 7 + 3  # drawings, sliders, groups
    assert "S takes 76.5" not in first[1]
    assert "two peaks" in pressed[1]  # the rates of the paper
    assert not [text for text in (*first, *moved, *pressed) if re.search("NaN|undefined|Infinity", text)]
