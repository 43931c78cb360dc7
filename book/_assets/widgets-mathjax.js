// The widget scripts ask for MathJax 2 by name; the pages have MathJax 3. Without this, a widget with a label is an error.
document.addEventListener("DOMContentLoaded", () => {
  if (window.MathJax && !window.MathJax.Hub) {
    const typeset = ([, , element]) => window.MathJax.startup.promise.then(() => window.MathJax.typesetPromise([element]));
    window.MathJax.Hub = { Queue: typeset };
  }
});
