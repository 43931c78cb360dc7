// What the scripts of others leave without a name: the handle of a slider, the pictures that it switches, the theme button.
window.addEventListener("load", () => {
  const name = () => {
    // The button has a name; its icons, drawn after the page has loaded, have names of their own.
    for (const icon of document.querySelectorAll(".theme-switch-button svg[role]")) {
      icon.removeAttribute("role");
      icon.setAttribute("aria-hidden", "true");
      icon.querySelector("title")?.remove();
    }
    for (const handle of document.querySelectorAll(".widget-slider [role=slider]:not([aria-label])")) {
      const label = handle.closest(".widget-slider").querySelector(".widget-label");
      if (label) handle.setAttribute("aria-label", label.textContent);
    }
    // The picture that a slider shows says for which of its values: a picture of a widget can have no text of its own.
    for (const image of document.querySelectorAll("img.widget-image")) {
      const slider = image.closest(".widget-subarea")?.querySelector(".widget-slider");
      if (!slider || !image.offsetParent) continue;
      const [label, value] = [".widget-label", ".widget-readout"].map((part) => slider.querySelector(part)?.textContent);
      image.alt = `Picture for ${label} = ${value}`;
    }
  };
  // What is too wide scrolls within itself, by keys too.
  const reach = () => {
    for (const formula of document.querySelectorAll("mjx-container:not([display])")) {
      if (formula.closest("table")) continue; // the table scrolls as a whole
      const room = formula.closest("p, li, dd, div")?.clientWidth;
      formula.classList.toggle("too-wide", room > 0 && formula.firstElementChild.getBoundingClientRect().width > room);
    }
    for (const box of document.querySelectorAll(".wide, .math, .cell_output pre, .pst-scrollable-table-container")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    }
  };
  (window.MathJax?.startup?.promise ?? Promise.resolve()).then(reach);
  window.addEventListener("resize", reach);
  name();
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true, attributeFilter: ["style", "class"] });
});
