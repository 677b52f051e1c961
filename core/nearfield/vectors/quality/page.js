"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const font = { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", size: 13, color: "#1f2328" };
const axis = { gridcolor: "#e8eaed", zerolinecolor: "#d0d4d9", automargin: true };
const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
const still = { displayModeBar: false, responsive: true };

function draw(name, data, ours) {
  const { xaxis, yaxis, ...rest } = ours;
  const layout = {
    font,
    paper_bgcolor: "#ffffff",
    plot_bgcolor: "#ffffff",
    margin: { l: 60, r: 16, t: name === "map" ? 28 : 12, b: 52 },
    hoverlabel: { align: "left", bgcolor: "#ffffff", bordercolor: "#8c959f", font: { ...font, size: 12 } },
    ...rest,
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
  };
  Plotly.react(name, data, layout, name === "map" ? config : still);
}

function pointsOf(map, colouring) {
  return colouring.groups.map((group) => ({
    type: "scatter",
    mode: "markers",
    name: group.name,
    legendrank: group.rank,
    x: group.points.map((point) => map.x[point]),
    y: group.points.map((point) => map.y[point]),
    hovertext: group.points.map((point) => map.hover[point]),
    hoverinfo: "text",
    marker: { size: 6, opacity: 0.75, color: group.colour },
  }));
}

const { map, ...others } = figures;
for (const [name, figure] of Object.entries(others)) draw(name, figure.data, figure.layout);
if (map) {
  const show = (number) => draw("map", pointsOf(map, map.colourings[number]), map.layout);
  show(0);
  const choice = document.getElementById("colouring");
  if (choice) choice.addEventListener("change", () => show(Number(choice.value)));
}
