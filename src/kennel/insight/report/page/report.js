// Draws every chart; each takes the page's own colour, so a change of the colour scheme needs no redrawing.
const charts = JSON.parse(document.getElementById("charts").textContent);
const narrow = window.innerWidth < 640;
const config = { ...charts.config, legend: { ...charts.config.legend, ...(narrow ? { columns: 2 } : {}) } };
const drawn = Object.entries(charts.specs).map(([name, spec]) =>
  vegaEmbed("#chart-" + name, spec, {
    mode: "vega-lite", renderer: "svg", actions: false, config, tooltip: { theme: "custom" },
  })
);
Promise.all(drawn).then(
  () => { document.documentElement.dataset.drawn = String(drawn.length); },
  (error) => { document.documentElement.dataset.drawn = "failed"; console.error(error); }
);
// Vega measures a chart's place when the window changes, which a printer's page does not tell it.
window.addEventListener("beforeprint", () => window.dispatchEvent(new Event("resize")));
