// The live figures of the chapters: sliders, an SVG drawing, and the result in words. No library, no kernel, no other host.
// Every function of `formulas` is one of the library's; tests/book/test_live_figures.py compares them.
"use strict";

(() => {
  const GREY = 1 / 255;
  const PRIOR = { shape: 2, rate: 1e-6 }; // of gamma and of omega, as the paper has them

  // ------------------------------------------------------------------------------------------------- formulas
  // A column of a square image of n x n pixels: d is the singular value, sigma the standard deviation of the noise; half
  // of the energy of the column is that of a, and that of b. Intensities are between 0 and 1.

  /** Squared norm of the mean, and variance of an entry, of the best q(a) and q(b) for a mean precision gamma. */
  function columnGivenGamma(gamma, d, sigma, n) {
    const precision = sigma ** -2;
    const squaredNorm = d - gamma / precision - n / (precision * d);
    if (squaredNorm > 0) return [squaredNorm, 1 / (precision * d)];
    return [0, 2 / (gamma + Math.sqrt(gamma ** 2 + 4 * precision * n))];
  }

  /** Half of the energy after one round: gamma by its closed form, then a and b until they settle. */
  function roundOfUpdates(halfEnergy, d, sigma, n) {
    const gamma = (PRIOR.shape + n) / (PRIOR.rate + halfEnergy);
    const [squaredNorm, variance] = columnGivenGamma(gamma, d, sigma, n);
    return squaredNorm + n * variance;
  }

  /** Free energy in nats, up to a constant, with the gamma that belongs to the energy and the best a and b for it. */
  function freeEnergyOfColumn(halfEnergy, d, sigma, n) {
    const shape = PRIOR.shape + n, rate = PRIOR.rate + halfEnergy;
    const [squaredNorm, variance] = columnGivenGamma(shape / rate, d, sigma, n);
    const after = squaredNorm + n * variance;
    const fidelity = (after ** 2 - 2 * d * squaredNorm) / (2 * sigma ** 2);
    return fidelity + (shape / rate) * (after + PRIOR.rate) - n * Math.log(variance) + shape * Math.log(rate);
  }

  /** Halves of energies that a round leaves as they are, ascending: stable, and for a column that can be on a ridge and a
      second stable one. */
  function restingPoints(d, sigma, n) {
    const growth = (logarithm) => roundOfUpdates(Math.exp(logarithm), d, sigma, n) / Math.exp(logarithm) - 1;
    const low = Math.log((n * PRIOR.rate) / PRIOR.shape / 5), high = Math.log(2 * d), cells = 600, found = [];
    for (let cell = 0; cell < cells; cell++) {
      let left = low + ((high - low) * cell) / cells, right = low + ((high - low) * (cell + 1)) / cells;
      if (growth(left) > 0 === growth(right) > 0) continue;
      const up = growth(left) > 0;
      for (let step = 0; step < 60; step++) {
        const middle = (left + right) / 2;
        if (growth(middle) > 0 === up) left = middle; else right = middle;
      }
      found.push(Math.exp((left + right) / 2));
    }
    return found;
  }

  /** Least singular value of a column that can be on. */
  const switchThreshold = (sigma, n) => 2 * sigma * Math.sqrt(PRIOR.shape + n);

  /** Where the singular values of noise alone end. */
  const noiseEdge = (sigma, n) => 2 * sigma * Math.sqrt(n);

  // Singular value in, strength out.
  const truncation = (d, sigma, n) => (d > noiseEdge(sigma, n) ? d : 0);
  const softThreshold = (d, sigma, n) => Math.max(d - noiseEdge(sigma, n), 0);
  const optimalShrinkage = (d, sigma, n) =>
    d > noiseEdge(sigma, n) ? Math.sqrt(d ** 2 - 4 * n * sigma ** 2) : 0;
  function columnSwitch(d, sigma, n) {
    if (d < switchThreshold(sigma, n)) return 0;
    const halfEnergy = (d + Math.sqrt(d ** 2 - switchThreshold(sigma, n) ** 2)) / 2;
    return halfEnergy - (n * sigma ** 2) / d;
  }

  // One pixel, y = s + n. Both precisions are integrated out, so that s and n have a Student-t each.

  /** Minus the logarithm of the density, zero at zero, in nats. */
  const penalty = (value, rate) => (PRIOR.shape + 0.5) * Math.log1p(value ** 2 / (2 * rate));

  /** Posterior density of s on a grid that is fine around 0 and around y, and its mean and standard deviation. */
  function pixelPosterior(y, sparseRate, noiseRate) {
    const wide = [sparseRate, noiseRate].map((rate) => Math.sqrt(rate / PRIOR.shape));
    const steps = Array.from({ length: 1601 }, (_, i) => Math.sinh(-11 + (22 * i) / 1600));
    const grid = [...steps.map((x) => wide[0] * x), ...steps.map((x) => y - wide[1] * x)].sort((a, b) => a - b);
    const cost = grid.map((s) => penalty(s, sparseRate) + penalty(y - s, noiseRate));
    const least = Math.min(...cost);
    const density = cost.map((c) => Math.exp(least - c));
    const integral = (f) => {
      let sum = 0;
      for (let i = 1; i < grid.length; i++) sum += ((grid[i] - grid[i - 1]) * (f(i) + f(i - 1))) / 2;
      return sum;
    };
    const mass = integral((i) => density[i]);
    const mean = integral((i) => density[i] * grid[i]) / mass;
    const variance = integral((i) => density[i] * (grid[i] - mean) ** 2) / mass;
    const peaks = grid.filter((_, i) => density[i - 1] < density[i] && density[i] >= density[i + 1]);
    return { grid, density: density.map((p) => p / mass), mean, sd: Math.sqrt(variance), peaks };
  }

  const formulas = {
    PRIOR, columnGivenGamma, roundOfUpdates, freeEnergyOfColumn, restingPoints, switchThreshold, noiseEdge,
    truncation, softThreshold, optimalShrinkage, columnSwitch, penalty, pixelPosterior,
  };
  globalThis.liveFormulas = formulas;
  if (typeof document === "undefined") return;

  // ------------------------------------------------------------------------------------------------- what all share
  const SVG = "http://www.w3.org/2000/svg";

  function make(name, attributes = {}, ...children) {
    const drawn = ["svg", "g", "path", "line", "circle", "rect", "text", "tspan"].includes(name);
    const element = drawn ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  let count = 0;
  const minus = (text) => text.replace("-", "−");
  const tenth = (value) => minus(value.toFixed(1));
  const whole = (value) => minus(value.toFixed(0));
  /** Two digits that count, and a power of ten where it is needed. */
  function short(value) {
    const [digits, power] = value.toExponential(1).split("e").map(Number);
    if (Math.abs(power) < 4) return minus(String(Number(value.toFixed(Math.max(0, 1 - power)))));
    const raised = [...String(power)].map((digit) => (digit === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]));
    return `${digits === 1 ? "" : `${minus(String(digits))} · `}10${raised.filter((digit) => digit).join("")}`;
  }

  /** A slider with its name and its value; on a logarithmic scale the slider has the exponent. */
  function slider({ name, min, max, step, value, logarithmic = false, show = whole }) {
    const scale = (x) => (logarithmic ? Math.log10(x) : x);
    const input = make("input", { type: "range", min: scale(min), max: scale(max), step: step, value: scale(value) });
    const output = make("output", { "aria-live": "off" });
    const id = `live-slider-${(count += 1)}`;
    input.setAttribute("aria-labelledby", id); // the name alone: the value is read from the slider
    return {
      element: make("label", {}, make("span", { id }, name), input, output),
      input,
      get value() { return logarithmic ? 10 ** Number(input.value) : Number(input.value); },
      set value(x) { input.value = scale(x); },
      update() {
        output.textContent = show(this.value);
        input.setAttribute("aria-valuetext", output.textContent);
      },
    };
  }

  /** Axes in a part of the drawing, and what is drawn in them. The position is in pixels. */
  class Panel {
    constructor(svg, { left, top, width, height }, { x, y, logarithmic = false, xLabel, yLabel, xTicks, yTicks }) {
      Object.assign(this, { x, y, logarithmic, width, height });
      const frame = make("g", { transform: `translate(${left} ${top})` });
      for (const value of xTicks) {
        const at = this.right(value);
        frame.append(make("line", { class: "grid", x1: at, x2: at, y1: 0, y2: height }));
        const end = at < 12 ? "start" : at > width - 12 ? "end" : "middle";
        frame.append(make("text", { x: at, y: height + 16, "text-anchor": end }, short(value)));
      }
      for (const value of yTicks) {
        frame.append(make("line", { class: "grid", x1: 0, x2: width, y1: this.down(value), y2: this.down(value) }));
        frame.append(make("text", { x: -6, y: this.down(value) + 4, "text-anchor": "end" }, short(value)));
      }
      frame.append(make("text", { x: width / 2, y: height + 34, "text-anchor": "middle" }, xLabel));
      frame.append(make("text", { x: -left + 2, y: -8 }, yLabel));
      // a nested svg cuts off what is outside of the axes
      this.inside = make("svg", { width, height, x: 0, y: 0 });
      frame.append(this.inside, make("rect", { class: "axes", width, height, x: 0, y: 0 }));
      this.frame = frame;
      svg.append(frame);
    }

    right(value) {
      const scale = this.logarithmic ? Math.log : (x) => x;
      return ((scale(value) - scale(this.x[0])) / (scale(this.x[1]) - scale(this.x[0]))) * this.width;
    }

    down(value) { return (1 - (value - this.y[0]) / (this.y[1] - this.y[0])) * this.height; }

    curve(points, name) {
      // what is far outside would overflow the numbers of the drawing
      const place = ([x, y]) =>
        `${this.right(x).toFixed(2)} ${Math.max(-1e4, Math.min(1e4, this.down(y))).toFixed(2)}`;
      this.inside.append(make("path", { class: `curve ${name}`, d: `M${points.map(place).join("L")}` }));
    }

    upright(x, name) {
      this.inside.append(make("line", { class: name, x1: this.right(x), x2: this.right(x), y1: 0, y2: this.height }));
    }

    /** A marker, drawn over the axes: it may stand on their edge. */
    mark(x, y, shape, name) { this.frame.append(marker(this.right(x), this.down(y), shape, name)); }

    note(x, y, text, anchor = "middle") {
      this.frame.append(make("text", { x: this.right(x), y: this.down(y), "text-anchor": anchor, class: "note" }, text));
    }
  }

  const SHAPES = {
    circle: "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0Z",
    square: "M-5 -5H5V5H-5Z",
    triangle: "M0 -7L6.5 5H-6.5Z",
    diamond: "M0 -7L7 0L0 7L-7 0Z",
  };
  const marker = (x, y, shape, name) =>
    make("path", { class: `mark ${name}`, d: SHAPES[shape], transform: `translate(${x} ${y})` });

  /** Round numbers that divide a range into some five parts. */
  function ticks([low, high], parts = 5) {
    const rough = (high - low) / parts, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((x) => x * power >= rough);
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
  }

  /** Fill a place of the page: a title, sliders, buttons, the drawing, and the result, which is also read aloud. */
  function figure(place, { title, sliders, buttons = {}, height, draw }) {
    const id = `live-figure-${(count += 1)}`;
    const svg = make("svg", { role: "img", "aria-labelledby": `${id}-result` });
    const result = make("p", { id: `${id}-result`, "aria-live": "polite" });
    const update = () => {
      Object.values(sliders).forEach((one) => one.update());
      const width = Math.max(240, svg.parentElement.clientWidth);
      svg.setAttribute("viewBox", `0 0 ${width} ${height(width)}`);
      svg.setAttribute("height", height(width));
      svg.replaceChildren();
      const text = draw(svg, width, sliders);
      if (result.textContent !== text) result.textContent = text;
    };
    const controls = make("div", { class: "controls" }, ...Object.values(sliders).map((one) => one.element));
    for (const [name, act] of Object.entries(buttons)) {
      const button = make("button", { type: "button" }, name);
      button.addEventListener("click", () => { act(sliders); update(); });
      controls.append(button);
    }
    controls.addEventListener("input", update);
    place.setAttribute("role", "group");
    place.setAttribute("aria-labelledby", `${id}-title`);
    place.replaceChildren(make("p", { class: "title", id: `${id}-title` }, title), controls, make("div", {}, svg), result);
    new ResizeObserver(update).observe(svg.parentElement);
    update();
  }

  // ------------------------------------------------------------------------------------------------- the figures
  const SIZE = 64, NARROW = 420;

  /** A column as a switch: its free energy over its energy, and where a round of updates takes it. */
  function switchOfAColumn(place) {
    const sigma = 25 * GREY, range = [4e-5, 8];
    const round = ({ d, energy }) => {
      const after = 2 * roundOfUpdates(energy.value / 2, d.value * GREY, sigma, SIZE);
      energy.value = Math.min(range[1], Math.max(range[0], after));
    };
    figure(place, {
      title: `A column of a ${SIZE} × ${SIZE} image with noise of 25 grey levels`,
      height: () => 330,
      sliders: {
        d: slider({ name: "singular value d (grey levels)", min: 250, max: 800, step: 5, value: 555 }),
        energy: slider({
          name: "energy of the column", min: range[0], max: range[1], step: "any", value: 4.3, logarithmic: true, show: short,
        }),
      },
      buttons: {
        "one round of updates": round,
        "100 rounds": (sliders) => { for (let i = 0; i < 100; i++) round(sliders); },
        "start with all of d": ({ d, energy }) => { energy.value = 2 * d.value * GREY; },
      },
      draw(svg, width, { d, energy }) {
        const value = d.value * GREY, half = energy.value / 2;
        const points = restingPoints(value, sigma, SIZE);
        const base = freeEnergyOfColumn(points[0], value, sigma, SIZE);
        const height = (e) => freeEnergyOfColumn(e / 2, value, sigma, SIZE) - base;
        const [ridge, well] = points.length > 1 ? points.slice(1).map((point) => height(2 * point)) : [0, 0];
        const deepest = Math.min(0, well), span = Math.max(40, ridge - deepest);
        const y = [deepest - 0.25 * span, Math.max(0, ridge) + 0.6 * span];
        const panel = new Panel(svg, { left: 44, top: 24, width: width - 56, height: 260 }, {
          x: range, y, logarithmic: true, xLabel: "energy of the column",
          yLabel: "free energy (nats, off = 0)", xTicks: [1e-4, 1e-3, 1e-2, 0.1, 1].filter((_, i) => width > NARROW || i % 2 === 0), yTicks: ticks(y),
        });
        const grid = Array.from({ length: 500 }, (_, i) => range[0] * (range[1] / range[0]) ** (i / 499));
        panel.curve(grid.map((e) => [e, height(e)]), "one");
        points.forEach((point, i) => panel.mark(2 * point, height(2 * point), "circle", i === 1 ? "open" : "one"));
        panel.note(2 * points[0], height(2 * points[0]) + 0.09 * (y[1] - y[0]), "off", "start");
        if (points.length > 1) panel.note(2 * points[2], height(2 * points[2]) - 0.11 * (y[1] - y[0]), "on");
        const after = roundOfUpdates(half, value, sigma, SIZE);
        const visible = (e) => Math.min(y[1], height(e));
        const [from, to] = [energy.value, 2 * after].map((e) => panel.right(Math.min(range[1], Math.max(range[0], e))));
        const level = panel.down(visible(energy.value));
        const head = Math.sign(to - from) * Math.min(9, Math.abs(to - from));
        panel.frame.append(make("path", { class: "arrow", d: `M${from} ${level}H${to}M${to - head} ${level - 5}L${to} ${level}L${to - head} ${level + 5}` }));
        panel.mark(energy.value, visible(energy.value), "square", "two");
        const threshold = switchThreshold(sigma, SIZE) / GREY;
        const wells = points.length > 1
          ? `two wells, and the one on the right is at ${short(well)} nats`
          : "one well, off";
        const on = points.length > 1 && half > points[1];
        const end = on
          ? `on, with a strength of ${whole(columnSwitch(value, sigma, SIZE) / GREY)} grey levels`
          : "off, with a strength of zero";
        return `The threshold is ${whole(threshold)} grey levels; a column of ${whole(d.value)} has ${wells}. `
          + `From the energy ${short(energy.value)} one round of updates leads to ${short(2 * after)}. `
          + `After many rounds the column is ${end}.`;
      },
    });
  }

  /** One pixel: what S and N pay for their shares of y, and the posterior of s. */
  function onePixel(place) {
    const x = [-150, 150];
    const rate = (scale) => PRIOR.shape * (scale * GREY) ** 2;
    const scale = { min: 0.01, max: 100, step: "any", logarithmic: true, show: (v) => `${short(v)} (β⁰ = ${short(rate(v))})` };
    const rates = (sparse, noise) => (sliders) => { sliders.sparse.value = sparse; sliders.noise.value = noise; };
    const ofPaper = [1e-6, 1e-8].map((value) => Math.sqrt(value / PRIOR.shape) / GREY);
    figure(place, {
      title: "One pixel, y = s + n",
      height: () => 430,
      sliders: {
        y: slider({ name: "observed y (grey levels)", min: -120, max: 120, step: 0.5, value: 76.5, show: tenth }),
        sparse: slider({ name: "scale of S (grey levels)", value: 40, ...scale }),
        noise: slider({ name: "scale of N (grey levels)", value: 20, ...scale }),
      },
      buttons: { "scales 40 and 20": rates(40, 20), "equal scales": rates(20, 20), "rates of the paper": rates(...ofPaper) },
      draw(svg, width, { y, sparse, noise }) {
        const observed = y.value * GREY, both = [rate(sparse.value), rate(noise.value)];
        const found = pixelPosterior(observed, ...both);
        const inside = found.grid.filter((s) => Math.abs(s / GREY) <= 160);
        const even = Array.from({ length: 601 }, (_, i) => (x[0] + i / 2) * GREY);
        const grid = [...inside, ...even].sort((a, b) => a - b);
        const cost = { S: (s) => penalty(s, both[0]), N: (s) => penalty(observed - s, both[1]) };
        const total = grid.map((s) => cost.S(s) + cost.N(s));
        const top = 1.05 * Math.max(...total);
        const common = { x, xTicks: [-150, -100, -50, 0, 50, 100, 150].filter((v) => width > NARROW || v % 100 === 0) };
        const size = { left: 44, width: width - 56, height: 145 };
        const above = new Panel(svg, { ...size, top: 24 }, {
          ...common, y: [0, top], xLabel: "", yLabel: "penalty (nats)", yTicks: ticks([0, top], 4),
        });
        const grey = (s) => s / GREY;
        above.curve(grid.map((s) => [grey(s), cost.S(s)]), "one");
        above.curve(grid.map((s) => [grey(s), cost.N(s)]), "two dashed");
        above.curve(grid.map((s, i) => [grey(s), total[i]]), "sum");
        const below = new Panel(svg, { ...size, top: 240 }, {
          ...common, y: [0, 1.1], xLabel: "s (grey levels)", yLabel: "posterior density of s, over its peak", yTicks: [0, 0.5, 1],
        });
        const peak = Math.max(...found.density);
        below.curve([[x[0], 0], ...found.grid.map((s, i) => [grey(s), found.density[i] / peak]), [x[1], 0]], "one filled");
        for (const panel of [above, below]) panel.upright(y.value, "observed");
        below.note(y.value + (y.value > 0 ? 4 : -4), 1, "s = y", y.value > 0 ? "start" : "end");
        below.mark(grey(found.mean), 0, "triangle", "two");
        const legend = make("g", { transform: `translate(${size.left} 206)` });
        let at = 0;
        for (const [name, style] of [["S pays", "one"], ["N pays", "two dashed"], ["sum", "sum"]]) {
          legend.append(make("path", { class: `curve ${style}`, d: `M${at} 0h26` }), make("text", { x: at + 31, y: 4 }, name));
          at += 31 + 7 * name.length + 14;
        }
        svg.append(legend);
        const peaks = found.peaks.length > 1 ? "two peaks" : "one peak";
        return `The posterior of s has ${peaks} and a standard deviation of ${short(grey(found.sd))} grey levels. `
          + `Of the ${tenth(y.value)} grey levels observed, S takes ${tenth(grey(found.mean))} on average (triangle), `
          + `and N ${tenth(y.value - grey(found.mean))}.`;
      },
    });
  }

  /** Four rules: singular value in, strength out. */
  function strengths(place) {
    const rules = [
      ["truncation", truncation, "circle", "one"],
      ["soft threshold", softThreshold, "square", "two dashed"],
      ["optimal shrinkage", optimalShrinkage, "triangle", "three dotted"],
      ["the switch", columnSwitch, "diamond", "sum"],
    ];
    const x = [0, 1000];
    figure(place, {
      title: `Singular value in, strength out, for a ${SIZE} × ${SIZE} image`,
      height: (width) => (width > NARROW ? 390 : 440),
      sliders: {
        d: slider({ name: "singular value (grey levels)", min: 0, max: 1000, step: 5, value: 450 }),
        sigma: slider({ name: "noise σ (grey levels)", min: 5, max: 50, step: 1, value: 25 }),
      },
      draw(svg, width, { d, sigma }) {
        const noise = sigma.value * GREY, edge = noiseEdge(noise, SIZE) / GREY;
        const panel = new Panel(svg, { left: 44, top: 24, width: width - 56, height: 260 }, {
          x, y: x, xLabel: "singular value of Y (grey levels)", yLabel: "strength in L (grey levels)",
          xTicks: ticks(x, width > NARROW ? 5 : 2), yTicks: ticks(x),
        });
        const grid = Array.from({ length: 1001 }, (_, i) => i);
        panel.upright(edge, "observed");
        panel.upright(d.value, "chosen");
        const [aside, anchor] = edge > 450 ? [-12, "end"] : [12, "start"];
        panel.note(edge + aside, 930, "edge of the noise", anchor);
        const strength = rules.map(([, rule]) => rule(d.value * GREY, noise, SIZE) / GREY);
        rules.forEach(([, rule, shape, style], i) => {
          panel.curve(grid.map((v) => [v, rule(v * GREY, noise, SIZE) / GREY]), style);
          panel.mark(d.value, strength[i], shape, style);
        });
        const legend = make("g", { transform: "translate(44 344)" });
        rules.forEach(([name, , shape, style], i) => {
          const [left, top] = width > NARROW ? [(i % 2) * 200, Math.floor(i / 2) * 24] : [0, i * 24];
          legend.append(
            make("path", { class: `curve ${style}`, d: `M${left} ${top}h30` }),
            marker(left + 15, top, shape, style),
            make("text", { x: left + 37, y: top + 4 }, name),
          );
        });
        svg.append(legend);
        const say = rules.map(([name], i) => `${name} ${whole(strength[i])}`).join(", ");
        return `Noise alone has singular values up to ${whole(edge)} grey levels. Of a singular value of ${whole(d.value)}, these keep: ${say}.`;
      },
    });
  }

  const figures = { switch: switchOfAColumn, pixel: onePixel, strength: strengths };
  const start = () => {
    for (const place of document.querySelectorAll(".live-figure")) figures[place.dataset.figure](place);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
