// The interactive part of the tour: draws a situation of data.json as lanes over time.

const SVG = "http://www.w3.org/2000/svg";
const ROW = 66;
const TOP = 8;
const TICKS = 5;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const chart = document.getElementById("chart");
const choices = document.getElementById("choices");
const list = document.getElementById("steps");
const summary = document.getElementById("summary");

let tour;
let current = 0;
let animation = 0;

function svg(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function hatch() {
  const pattern = svg("pattern", {
    id: "hatch", width: 8, height: 8, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)",
  });
  pattern.append(svg("line", { class: "hatch", y2: 8 }));
  const definitions = svg("defs", {});
  definitions.append(pattern);
  return definitions;
}

function draw(animate) {
  cancelAnimationFrame(animation);
  const { lanes } = tour;
  const { steps, busy, end, unit } = tour.situations[current];
  const width = Math.max(240, chart.clientWidth);
  const bottom = TOP + ROW * lanes.length;
  const x = (time) => 4 + (time / end) * (width - 8);
  const y = (lane) => TOP + ROW * lanes.findIndex(({ id }) => id === lane) + 40;

  const root = svg("svg", {
    viewBox: `0 0 ${width} ${bottom + 34}`, height: bottom + 34, role: "img",
    "aria-label": `${tour.situations[current].title}: ${steps.map(({ text }) => text).join(", ")}`,
  });
  root.append(hatch());
  for (const { id } of lanes) {
    root.append(svg("line", { class: "rail", x1: 4, x2: width - 4, y1: y(id), y2: y(id) }));
  }
  if (busy) {
    const from = x(busy.from);
    root.append(svg("rect", {
      class: "busy", x: from, y: y("kernel") - 9, width: x(busy.to) - from, height: 18, rx: 9,
    }));
  }
  const way = steps.flatMap(({ lane, from, to }) => [[from, y(lane)], [to, y(lane)]]);
  root.append(svg("polyline", { class: "hop", points: way.map(([t, h]) => `${x(t)},${h}`).join(" ") }));
  for (const { id, name } of lanes) root.append(svg("text", { x: 4, y: y(id) - 18 }, name));
  if (busy) {
    root.append(svg("text", {
      class: "note", x: x(busy.to), y: y("kernel") - 18, "text-anchor": "end",
    }, busy.text));
  }
  steps.forEach(({ lane, from, to, text, waits }, index) => {
    const bar = svg("rect", {
      class: `step${waits ? " waits" : ""}`, x: x(from) + 1, y: y(lane) - 9,
      width: Math.max(4, x(to) - x(from) - 2), height: 18, rx: 6, fill: `var(--${lane})`,
    });
    bar.append(svg("title", {}, text));
    bar.addEventListener("pointerenter", () => point(index));
    bar.addEventListener("pointerleave", () => point(-1));
    root.append(bar);
  });
  for (let part = 0; part <= TICKS; part += 1) {
    const time = (end / TICKS) * part;
    const anchor = part === 0 ? "start" : part === TICKS ? "end" : "middle";
    root.append(svg("text", {
      class: "tick", x: x(time), y: bottom + 18, "text-anchor": anchor,
    }, part === TICKS ? `${time} ${unit}` : time));
  }
  const traveller = svg("circle", { class: "traveller", r: 8 });
  root.append(traveller);
  chart.replaceChildren(root);
  travel(traveller, way, x, animate);
}

/** Moves the dot along the way once; where motion is not wanted it stands at the end. */
function travel(dot, way, x, animate) {
  const [last] = way.at(-1);
  const place = (time) => {
    let index = 0;
    while (index < way.length - 1 && way[index + 1][0] <= time) index += 1;
    dot.setAttribute("cx", x(Math.min(time, last)));
    dot.setAttribute("cy", way[index][1]);
  };
  if (!animate || calm.matches) {
    place(last);
    return;
  }
  const start = performance.now();
  const frame = (now) => {
    const time = Math.max(0, ((now - start) / 2600) * last);
    place(time);
    if (time < last) animation = requestAnimationFrame(frame);
  };
  place(0);
  animation = requestAnimationFrame(frame);
}

/** Highlights one step in the chart and in the list; -1 for none. */
function point(index) {
  chart.querySelectorAll(".step").forEach((bar, at) => {
    bar.classList.toggle("dim", index >= 0 && at !== index);
  });
  [...list.children].forEach((item, at) => item.classList.toggle("on", at === index));
}

function choose(index, animate = true) {
  current = index;
  const { steps, summary: text, unit } = tour.situations[index];
  [...choices.children].forEach((button, at) => button.setAttribute("aria-pressed", at === index));
  summary.textContent = text;
  list.replaceChildren(...steps.map(({ lane, text: step, from, to, waits }, at) => {
    const item = document.createElement("li");
    item.className = `${lane}${waits ? " waits" : ""}`;
    const label = document.createElement("span");
    label.textContent = step;
    const time = document.createElement("time");
    time.textContent = `${Number((to - from).toFixed(1))} ${unit}`;
    item.append(label, time);
    item.addEventListener("pointerenter", () => point(at));
    item.addEventListener("pointerleave", () => point(-1));
    return item;
  }));
  draw(animate);
}

async function start() {
  const response = await fetch(new URL("data.json", import.meta.url));
  if (!response.ok) throw new Error(`data.json: ${response.status}`);
  tour = await response.json();
  choices.replaceChildren(...tour.situations.map(({ title }, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title;
    button.addEventListener("click", () => choose(index));
    return button;
  }));
  choose(0, false);
  let width = chart.clientWidth;
  new ResizeObserver(() => {
    if (chart.clientWidth === width) return;
    width = chart.clientWidth;
    draw(false);
  }).observe(chart);
}

start().catch((error) => {
  summary.textContent = `The chart could not be drawn: ${error.message}`;
});
