"use strict";
(() => {
  const points = JSON.parse(document.getElementById("data").textContent);
  const keys = ["model", "data", "suite", "perturbation"];
  const colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];
  const unique = (rows, key) => [...new Set(rows.map((row) => row[key]))];
  const chosen = Object.fromEntries(keys.map((key) => [key, ""]));
  const speeds = JSON.parse(document.getElementById("speed-data").textContent);
  const within = (suite) => unique(points.filter((p) => !suite || p.suite === suite), "perturbation");
  const overall = (suite) => within(suite).find((name) => name === "all" || name.startsWith("worst case ")) ?? "";
  // Open on the suite with the most perturbations, on their mean, or on the worst case over attacks of one radius.
  chosen.suite = unique(points, "suite").sort((a, b) => within(b).length - within(a).length)[0] ?? "";
  chosen.perturbation = overall(chosen.suite);
  let order = { key: "accuracy", down: true };

  function fill(select, key) {
    const values = key === "perturbation" ? within(chosen.suite) : unique(points, key);
    select.replaceChildren(...["", ...values].map((value) => new Option(value || "any", value)));
    select.value = chosen[key];
  }
  for (const key of keys) {
    const select = document.getElementById(`filter-${key}`);
    fill(select, key);
    select.addEventListener("change", () => {
      chosen[key] = select.value;
      if (key === "suite") { chosen.perturbation = overall(chosen.suite); fill(document.getElementById("filter-perturbation"), "perturbation"); }
      draw();
    });
  }
  const columns = [["model", "model"], ["data", "data"], ["suite", "suite"], ["perturbation", "perturbation"], ["n", "images"],
    ["first", "t = 0 (%)"], ["accuracy", "t = T (%)"], ["interval", "95 % interval"], ["gain", "change (points)"], ["T", "T"]];
  const head = document.querySelector("#board thead tr");
  for (const [key, title] of columns) {
    const cell = document.createElement("th");
    cell.scope = "col"; cell.dataset.key = key;
    const button = document.createElement("button");
    button.type = "button"; button.textContent = title;
    button.addEventListener("click", () => {
      order = { key, down: order.key === key ? !order.down : !["model", "data", "suite", "perturbation"].includes(key) };
      draw();
    });
    cell.append(button); head.append(cell);
  }
  const selected = () => points.filter((p) => keys.every((key) => !chosen[key] || p[key] === chosen[key]));
  function curvesOf(rows) {
    const groups = new Map();
    for (const p of rows) {
      const id = JSON.stringify(keys.map((key) => p[key]));
      if (!groups.has(id)) groups.set(id, []);
      groups.get(id).push(p);
    }
    for (const group of groups.values()) group.sort((a, b) => a.timestep - b.timestep);
    return [...groups.values()];
  }
  const name = (p) => [p.model, ...["data", "suite", "perturbation"].filter((key) => !chosen[key]).map((key) => p[key])].join(", ");
  function board(curves) {
    const rows = curves.map((curve) => {
      const first = curve[0], last = curve[curve.length - 1];
      return { ...last, first: first.accuracy, gain: last.accuracy - first.accuracy, T: last.timestep,
        interval: `${last.low.toFixed(1)} to ${last.high.toFixed(1)}` };
    });
    rows.sort((a, b) => (a[order.key] < b[order.key] ? -1 : a[order.key] > b[order.key] ? 1 : 0) * (order.down ? -1 : 1));
    const body = document.querySelector("#board tbody");
    body.replaceChildren();
    for (const row of rows) {
      const line = body.insertRow();
      for (const [key] of columns) {
        const cell = line.insertCell(), value = row[key];
        cell.textContent = ["first", "accuracy", "gain"].includes(key) ? value.toFixed(1) : value;
        if (typeof value === "number") cell.className = "number";
      }
    }
    for (const cell of head.children) {
      cell.setAttribute("aria-sort", cell.dataset.key !== order.key ? "none" : order.down ? "descending" : "ascending");
    }
    document.getElementById("count").textContent = `${rows.length} ${rows.length === 1 ? "row" : "rows"}`;
  }
  function speed(layout) {
    const rows = speeds.filter((p) => ["model", "data", "suite"].every((key) => !chosen[key] || p[key] === chosen[key]));
    const ids = [...new Set(rows.map((p) => `${p.model}, ${p.data}, ${p.suite}`))];
    const traces = ids.map((id, i) => {
      const own = rows.filter((p) => `${p.model}, ${p.data}, ${p.suite}` === id);
      return { name: id, x: own.map((p) => p.gmacs), y: own.map((p) => p.accuracy), text: own.map((p) => `t = ${p.timestep}`), mode: "lines+markers", line: { color: colours[i % 7] }, marker: { symbol: i % 7 } };
    });
    Plotly.react("speed", traces, { ...layout, xaxis: { title: { text: "multiply-accumulates of one answer (1e9)" }, type: "log", dtick: "D2" }, yaxis: { title: { text: "mean accuracy (%)" } } }, { responsive: true, displaylogo: false });
  }
  function draw() {
    const curves = curvesOf(selected());
    board(curves);
    if (!window.Plotly) return;
    const steps = Math.max(...points.map((p) => p.timestep));
    const traces = curves.slice(0, 28).map((curve, i) => {
      const flat = curve.length === 1, c = flat ? [curve[0], { ...curve[0], timestep: steps }] : curve;
      return { name: name(curve[0]), x: c.map((p) => p.timestep), y: c.map((p) => p.accuracy), mode: flat ? "lines" : "lines+markers",
        line: { color: colours[i % 7], dash: flat ? "dash" : "solid" }, marker: { symbol: i % 7 },
        error_y: flat ? undefined : { type: "data", symmetric: false, array: c.map((p) => p.high - p.accuracy), arrayminus: c.map((p) => p.accuracy - p.low), thickness: 1 } };
    });
    const layout = { margin: { t: 10, r: 10 }, xaxis: { title: { text: "timestep" }, dtick: steps > 12 ? undefined : 1 }, yaxis: { title: { text: "accuracy (%)" } }, legend: { orientation: "h", y: -0.2 } };
    Plotly.react("curves", traces, layout, { responsive: true, displaylogo: false });
    const each = points.filter((p) => ["model", "data", "suite"].every((key) => !chosen[key] || p[key] === chosen[key]));
    const lasts = curvesOf(each).map((curve) => curve[curve.length - 1]);
    const x = unique(lasts, "perturbation"), label = (p) => `${p.model}, ${p.suite}`, y = [...new Set(lasts.map(label))];
    const at = new Map(lasts.map((p) => [`${label(p)}\n${p.perturbation}`, p.accuracy]));
    const z = y.map((row) => x.map((column) => at.get(`${row}\n${column}`) ?? null));
    Plotly.react("heat", [{ type: "heatmap", x, y, z, zmin: 0, zmax: 100, colorscale: "Cividis", texttemplate: x.length * y.length < 250 ? "%{z:.0f}" : "", colorbar: { title: { text: "%" } } }],
      { margin: { t: 10, l: 200, b: 120 }, height: 200 + 32 * y.length, yaxis: { automargin: true, autorange: "reversed" }, xaxis: { automargin: true } }, { responsive: true, displaylogo: false });
    if (speeds.length) speed(layout);
  }
  async function charts() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    draw();
  }
  window.addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details")) each.open = true;
    for (const each of document.querySelectorAll(".js-plotly-plot")) Plotly.Plots.resize(each);
  });
  draw();
  if (!window.DecompressionStream) {
    for (const each of document.querySelectorAll(".chart")) each.textContent = "Charts need a browser of 2023 or later.";
  } else charts();
})();
