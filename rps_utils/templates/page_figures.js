// Draws the figures of a page: titles as text that wraps, and colours for a dark screen where the reader asks for one.
const DARK = {{ dark_colours | tojson }};
const dark = matchMedia("(prefers-color-scheme: dark)");

function forNight(key, value) {
  return typeof value === "string" ? value.replace(/#[0-9a-f]{6}|rgba\([^)]*\)/gi, (colour) => DARK[colour] ?? colour) : value;
}

function draw(source, asDark) {
  const figure = JSON.parse(source.textContent, asDark ? forNight : undefined);
  const layout = figure.layout, top = layout.margin?.t ?? layout.template?.layout?.margin?.t ?? 80;
  layout.title = { text: "" };
  layout.margin = { ...layout.margin, t: Math.max(top - {{ title_height }}, 24) };
  layout.height = layout.height - Math.min({{ title_height }}, top - 24);
  delete layout.width;
  Plotly.react(source.dataset.for, figure.data, layout, { displaylogo: false, responsive: true });
}

function drawAll(asDark) {
  document.querySelectorAll("script[data-for]").forEach((source) => draw(source, asDark));
}

drawAll(dark.matches);
dark.addEventListener("change", (query) => drawAll(query.matches));
addEventListener("beforeprint", () => drawAll(false));
addEventListener("afterprint", () => drawAll(dark.matches));
