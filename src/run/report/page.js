"use strict";
const drawing = (number) => {
  let svg = data.drawings[number];
  data.repeated.forEach((part, i) => { svg = svg.split("~" + String.fromCharCode(97 + i)).join(part); });
  return svg;
};

/* The replay: what the page shows of the cells, as they were after frame `index`. */
const show = (index) => {
  const frame = data.frames[index];
  document.querySelector("#epoch").value = index;
  document.querySelector(".replay output").textContent = `${frame.epoch} of ${total}`;
  document.querySelector(".genotype").textContent = frame.text;
  document.querySelectorAll(".now").forEach((span) => { span.textContent = frame.epoch; });
  frame.cells.forEach((cell, kind) => {
    document.querySelector(`.cell[data-cell="${kind}"]`).innerHTML = drawing(cell.drawing);
    const heat = document.querySelector(`.heat[data-cell="${kind}"]`);
    const low = Number(heat.dataset.low), high = Number(heat.dataset.high);
    heat.querySelectorAll("g:not(.scale)").forEach((group, place) => {
      const weight = cell.weights[place], part = (weight - low) / (high - low);
      group.classList.toggle("deep", part > 0.55);
      group.classList.toggle("kept", cell.kept.includes(place));
      group.querySelector("rect").setAttribute("fill-opacity", part.toFixed(2));
      group.querySelector("text").textContent = (weight / 10).toFixed(1);
    });
  });
};
/* #epoch=3 shows the third epoch, or the nearest one that the page holds. */
const follow = () => {
  const wanted = /^#epoch=(\d+)$/.exec(location.hash);
  if (!wanted) return;
  const away = data.frames.map((frame) => Math.abs(frame.epoch - Number(wanted[1])));
  show(away.indexOf(Math.min(...away)));
};
let total = "";
const replay = document.querySelector(".replay");
if (replay && data.frames.length > 1) {
  const slider = replay.querySelector("input"), button = replay.querySelector("button");
  total = replay.querySelector("output").textContent.split(" of ")[1];
  replay.hidden = false;
  const name = () => {
    // a page in a sandbox may not change its address; the replay works without
    try { history.replaceState(null, "", "#epoch=" + data.frames[slider.value].epoch); } catch { }
  };
  let timer = 0;
  const stop = () => { clearInterval(timer); timer = 0; button.textContent = "Play"; };
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); name(); });
  button.addEventListener("click", () => {
    if (timer) { stop(); name(); return; }
    let at = Number(slider.value) + 1;
    if (at >= data.frames.length) at = 0;
    show(at);
    button.textContent = "Pause";
    timer = setInterval(() => {
      at += 1;
      if (at >= data.frames.length) { stop(); name(); return; }
      show(at);
    }, Math.max(120, Math.min(600, 12000 / data.frames.length)));
  });
  addEventListener("hashchange", () => { stop(); follow(); });
  follow();
}

/* Values under the pointer. */
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
const short = (value) => {
  const size = Math.abs(value);
  return size === 0 || (size >= 1e-4 && size < 1e7) ? String(Number(value.toPrecision(4))) : value.toExponential(2);
};
document.querySelectorAll("svg.plot[data-scale]").forEach((svg) => {
  const [x0, x1, left, right, y0, y1, bottom, top] = svg.dataset.scale.split(" ").map(Number);
  const lines = [...svg.querySelectorAll("polyline")].map((line) => ({
    name: line.dataset.name, classes: line.getAttribute("class"),
    points: line.getAttribute("points").split(" ").map((point) => point.split(",").map(Number)),
  }));
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cursor.setAttribute("class", "cursor");
  const leave = () => { tip.hidden = true; cursor.remove(); };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
    const near = (points) => points.reduce((best, point) => Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best);
    const found = lines.map((line) => ({ ...line, point: near(line.points) }));
    const x = found.map((line) => line.point[0]).reduce((best, x) => Math.abs(x - at) < Math.abs(best - at) ? x : best);
    const time = right === left ? x0 : x0 + (x - left) / (right - left) * (x1 - x0);
    tip.textContent = "epoch " + short(Math.round(time * 100) / 100);
    found.filter((line) => Math.abs(line.point[0] - x) < 1).map((line) => ({
      ...line, value: y0 + (line.point[1] - bottom) / (top - bottom) * (y1 - y0),
    })).sort((a, b) => b.value - a.value).forEach((line) => {
      const row = document.createElement("div"), dot = document.createElement("i");
      dot.className = line.classes;
      row.append(dot, `${line.name} ${short(line.value)}`);
      tip.append(row);
    });
    cursor.setAttribute("d", `M${x} ${top}V${bottom}`);
    svg.append(cursor);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const fits = event.clientX + 16 + box.width < innerWidth;
    tip.style.left = Math.max(4, fits ? event.clientX + 16 : event.clientX - 16 - box.width) + "px";
    tip.style.top = Math.max(4, Math.min(event.clientY - 10, innerHeight - box.height - 4)) + "px";
  });
});
