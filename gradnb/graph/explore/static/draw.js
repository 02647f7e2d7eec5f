// The drawing, as svg.py and shapes.py draw it: one shape for each kind, one stroke for each state, never colour alone.
// All of it is attributes, so that a copy needs no style sheet.

import { svg } from "./dom.js";
import { kindOf, indexOf, CHILD, IN, digits } from "./model.js";

export const BLUE = "#0072B2";
export const VERMILLION = "#D55E00";
const GREY = "#999999", DARK = "#B84E00", ORANGE = "#E69F00", MONO = "monospace";
const STROKES = {
  flows: [BLUE, 1.3], zero: [VERMILLION, 1.6, "1.5 3"], nan: [VERMILLION, 2], inf: [VERMILLION, 2], starved: [VERMILLION, 1.3],
  lost: [VERMILLION, 1.5, "5 3"], data: [GREY, 1], frozen: [GREY, 1.2, "4 3"], unused: [GREY, 1.6],
};
const LINES = { data: [GREY, 1.2], flows: [BLUE, 1.6], starved: [VERMILLION, 1.2], lost: [VERMILLION, 2.2, "5 4"] };
const TOLD = { flows: "a gradient comes back", starved: "has history, but no gradient comes back", lost: "the gradient is lost", data: "data only, no gradient is wanted" };
const THIN = 1.2, THICK = 4;
const LABEL = 7.25, TEXT = 6.3, LONGEST = 38; // px a character; characters of a label
const DOTS = { "stroke-linecap": "round", "stroke-dasharray": "0.1 4.5" };
const CROSS = "M-3.8 -3.8l7.6 7.6m0 -7.6l-7.6 7.6";

export function elide(text, limit) {
  const letters = [...text];
  if (letters.length <= limit) return text;
  const tail = Math.floor(((limit - 1) * 3) / 5);
  return `${letters.slice(0, limit - 1 - tail).join("")}…${letters.slice(letters.length - tail).join("")}`;
}
const labelOf = (box) => elide(box.label, LONGEST);

const n = (value) => Number(value.toFixed(1));
const rect = (x, y, width, height, more) => svg("rect", { x: n(x), y: n(y), width: n(width), height: n(height), ...more });
const text = (x, y, content, more) => svg("text", { x: n(x), y: n(y), "font-size": 11, ...more }, content);

export function stroke(state) {
  const [colour, width, dash] = STROKES[state] || STROKES.data;
  return { stroke: colour, "stroke-width": width, "stroke-dasharray": dash };
}

// Fills the layer, and gives the element of each box. `look` is {passes, chosen, focus, hits, scale, label}.
export function draw(layer, graph, scene, look) {
  const elements = new Map(), parts = [], crosses = [], of = new Map(), wide = widths(scene);
  const open = new Set(scene.boxes.filter((at) => at.open).map((at) => at.id));
  for (const line of scene.lines) of.set(line.box, [...(of.get(line.box) || []), line]);
  for (const at of scene.boxes) {
    if (at.id !== 0) {
      elements.set(at.id, drawBox(graph, at, look));
      parts.push(elements.get(at.id));
    }
    if (at.open) parts.push(svg("g", { class: "gx-links", role: "presentation" }, drawLines(graph, of.get(at.id) || [], open, wide, look)));
  }
  for (const { cut, points, link } of scene.lines) if (cut && kindOf(link.target) === CHILD && !open.has(indexOf(link.target))) {
    const [x, y] = points[points.length - 1];
    crosses.push(svg("g", { transform: `translate(${n(x)} ${n(y - 11)})`, "pointer-events": "none" }, svg("circle", { r: 8.5, fill: VERMILLION }),
      svg("path", { d: CROSS, stroke: "#fff", "stroke-width": 2.4, "stroke-linecap": "round" })));
  }
  layer.replaceChildren(...parts, ...crosses);
  return elements;
}

// The width of a line by the logarithm of the norm of the gradient on it.
function widths(scene) {
  const [low, high] = ends(scene) || [0, 0];
  return ({ kind, norm }) => (kind === "flows" && norm > 0 && Number.isFinite(norm) && high - low >= 0.5
    ? THIN + ((THICK - THIN) * (Math.log10(norm) - low)) / (high - low) : (LINES[kind] || LINES.data)[1]);
}

function ends(scene) {
  const known = scene.lines.filter(({ kind, norm }) => kind === "flows" && norm > 0 && Number.isFinite(norm)).map(({ norm }) => Math.log10(norm));
  return known.length ? [Math.min(...known), Math.max(...known)] : null;
}

// Those that matter most on top. What a line has in common, at either end, with longer ones that are drawn already is left out.
function drawLines(graph, lines, open, wide, look) {
  const drawn = new Set(), order = Object.keys(LINES);
  const sorted = [...lines].sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind) || b.points.length - a.points.length);
  return sorted.map((line) => {
    const pieces = line.points.slice(1).map((point, i) => `${line.kind} ${line.points[i]} ${point}`);
    let start = 0, end = pieces.length;
    while (!look.passes && start < end - 1 && drawn.has(pieces[start])) start++;
    while (!look.passes && start < end - 1 && drawn.has(pieces[end - 1])) end--;
    pieces.forEach((piece) => drawn.add(piece));
    return drawLine(graph, line, line.points.slice(start, end + 1), open, wide(line), look);
  });
}

function drawLine(graph, line, [[x, y], ...rest], open, width, { passes }) {
  const [colour, , dash] = LINES[line.kind] || LINES.data;
  let d = `M${n(x)} ${n(y)}`;
  for (const [nx, ny] of rest) {
    if (nx === x && ny === y) continue;
    d += Math.abs(nx - x) < 0.05 ? `V${n(ny)}` : `C${n(x)} ${n((y + ny) / 2)} ${n(nx)} ${n((y + ny) / 2)} ${n(nx)} ${n(ny)}`;
    [x, y] = [nx, ny];
  }
  const { source, target } = line.link, ends = [source, target].filter((thing) => kindOf(thing) === CHILD).map(indexOf);
  const told = `${endName(graph, line.box, source)} → ${endName(graph, line.box, target)}: ${line.cut ? "cut here, " : ""}${TOLD[line.kind] || ""}`
    + `${line.norm === null ? "" : `, norm ${digits(line.norm)}`}${line.count > 1 ? ` (${line.count} edges)` : ""}`;
  const group = svg("g", { opacity: passes && !ends.every((id) => passes[id]) ? 0.2 : null }, svg("title", null, told),
    svg("path", { d, fill: "none", stroke: colour, "stroke-width": n(width), "stroke-dasharray": dash }));
  if (!line.cut && kindOf(target) === CHILD && !open.has(indexOf(target))) {
    const half = 3 + width / 2, [ex, ey] = line.points[line.points.length - 1];
    group.append(svg("path", { d: `M${n(ex - half)} ${n(ey - 1 - 2 * half)}h${n(2 * half)}L${n(ex)} ${n(ey - 0.5)}z`, fill: colour }));
  }
  return group;
}

// What a line begins or ends at; of an entry what feeds it, further out.
function endName(graph, box, thing) {
  while (kindOf(thing) === IN) [thing, box] = [graph.boxes[box].entries[indexOf(thing)], graph.boxes[box].parent];
  return kindOf(thing) === CHILD ? graph.boxes[indexOf(thing)].label : `out of ${graph.boxes[box].label}`;
}

function drawBox(graph, at, { passes, chosen, focus, hits, scale, label }) {
  const box = graph.boxes[at.id], node = box.leaf ? graph.nodes[box.node] : null;
  const pill = node && node.kind === "parameter";
  return svg("g", {
    class: `gx-box${at.id === chosen ? " gx-chosen" : ""}${hits.has(at.id) ? " gx-hit" : ""}`, "data-box": at.id, transform: `translate(${n(at.x)} ${n(at.y)})`,
    role: "treeitem", tabindex: at.id === focus ? 0 : -1, "aria-level": box.level, "aria-label": label(at.id), "aria-expanded": box.leaf ? null : String(at.open),
    "aria-selected": String(at.id === chosen), opacity: passes && !passes[at.id] ? 0.22 : null,
  }, at.open ? frame(graph, at, box) : closed(graph, at, box, node, scale && scale.of(box.norm)),
  rect(-3.5, -3.5, at.w + 7, at.h + 7, { class: "gx-ring", rx: pill ? Math.min(at.h + 7, 51) / 2 : 9, fill: "none" }));
}

function frame(graph, at, box) {
  const look = graph.off.has(box.id) ? { stroke: "currentColor", "stroke-opacity": 0.75, "stroke-width": 1.6, ...DOTS }
    : box.marks.length ? { stroke: VERMILLION, "stroke-opacity": 0.6 } : { stroke: "currentColor", "stroke-opacity": 0.35 };
  const name = labelOf(box), base = graph.sizes.HEADER / 2 + 4.5, room = Math.floor((at.w - 2 * graph.sizes.PADDING - [...name].length * LABEL - 8) / TEXT);
  // what the detail told of folded operations is seen now
  const detail = box.detail.split(" · ").filter((part) => !part.startsWith("+ ")).join(" · ");
  return [
    rect(0, 0, at.w, at.h, { rx: 8, fill: "currentColor", "fill-opacity": 0.035, "pointer-events": "none", ...look }),
    rect(0, 0, at.w, graph.sizes.HEADER, { class: "gx-head", rx: 8, fill: "currentColor", "fill-opacity": 0 }),
    text(graph.sizes.PADDING, base, name, { "font-size": 12, "font-family": MONO, "font-weight": 700 }),
    detail && room >= 6 && text(graph.sizes.PADDING + [...name].length * LABEL + 8, base, elide(detail, room), { opacity: 0.75 }),
  ];
}

function closed(graph, at, box, node, shades) {
  const { w, h } = at, filled = !shades && isFilled(box, node), top = box.tag ? graph.sizes.TAG : 0, centre = w / 2;
  const base = top + 14 + (box.lines.length ? 3.7 : 4.2);
  const bold = box.tag || !node || node.kind === "loss" ? 700 : null;
  const ink = shades ? shades.text : filled ? "#fff" : null;
  return [
    !node && cards(box, h, w),
    plate(graph, box, node, w, h, shades),
    graph.learns[box.id] && holds(graph.learns[box.id], h),
    box.tag && strip(graph, box, w),
    text(centre, base, labelOf(box), { "font-size": 12, "font-family": MONO, "text-anchor": "middle", "font-weight": bold, fill: ink }),
    box.lines.map((line, i) => {
      const last = box.told && i === box.lines.length - 1;
      return text(centre, base + 15 * (i + 1) - 0.5, line, { "text-anchor": "middle", "font-weight": last ? 700 : null, fill: ink, opacity: last || ink ? null : 0.75 });
    }),
  ];
}

// A frozen parameter is hollow whatever arrives.
const stateOf = (box, node) => (node.train === 0 ? "frozen" : box.state);
const isFilled = (box, node) => Boolean(node) && node.kind === "parameter" && !box.marks.length && stateOf(box, node) === "flows";

// Trainable with a gradient: filled. Trainable without: tinted, in the colour of what is wrong. Frozen: hollow.
function pillLook(state) {
  if (state === "flows") return { fill: BLUE };
  if (state === "frozen") return { fill: GREY, "fill-opacity": 0, ...stroke(state) };
  return { fill: ["unused", "data"].includes(state) ? GREY : VERMILLION, "fill-opacity": 0.25, ...stroke(state) };
}

function plate(graph, box, node, w, h, shades) {
  const bad = box.marks.length > 0, tint = bad || ["nan", "inf"].includes(box.state) ? VERMILLION : "currentColor";
  const look = { class: "gx-frame", ...(bad ? { stroke: severity(graph, box), "stroke-width": 2.5 } : stroke(box.shown)) };
  const fill = (colour, opacity) => (shades ? { fill: shades.fill } : { fill: colour, "fill-opacity": opacity });
  if (!node) return rect(0, 0, w, h, { rx: 6, ...look, ...fill(tint, 0.07), ...(graph.off.has(box.id) && !look["stroke-dasharray"] && !bad ? DOTS : {}) });
  if (node.kind === "parameter" && bad) return rect(0, 0, w, h, { rx: 6, ...look, ...fill(tint, 0.1) });
  if (node.kind === "parameter") return rect(0, 0, w, h, { class: "gx-frame", rx: Math.min(h, 44) / 2, stroke: BLUE, "stroke-width": 0.01, ...pillLook(stateOf(box, node)), ...(shades ? fill() : {}) });
  if (node.kind === "input") return rect(0, 0, w, h, { ...look, ...fill(GREY, 0) });
  if (node.kind === "loss") {
    const inner = !bad && rect(3, 3, w - 6, h - 6, { rx: 5, fill: "none", "pointer-events": "none", ...stroke(box.state) });
    return [rect(0, 0, w, h, { rx: 8, ...look, ...fill(tint, 0.07) }), inner];
  }
  return rect(0, 0, w, h, { rx: 5, ...look, ...fill(tint, bad ? 0.1 : 0.04) });
}

// A small pill on the left border of a fold that holds parameters, filled as theirs would be.
const holds = (state, h) => rect(-4, h / 2 - 8, 8, 16, { rx: 4, "pointer-events": "none", ...pillLook(state) });

function cards(box, bottom, w) {
  const many = box.kind === "repeat" ? 3 : 1;
  const d = Array.from({ length: many }, (_, k) => k + 1).map((i) => `M${n(3 * i + 2)} ${n(bottom + 3 * i)}q1 0 3 0h${n(w - 6 * i - 10)}q2 0 3 0`).join("");
  return svg("path", { d, fill: "none", stroke: (STROKES[box.shown] || STROKES.data)[0], "stroke-width": 1.2, "pointer-events": "none" });
}

function strip(graph, box, w) {
  const colour = severity(graph, box);
  return [
    svg("path", { d: `M0 ${graph.sizes.TAG}v-${graph.sizes.TAG - 5}q0 -5 5 -5h${n(w - 10)}q5 0 5 5v${graph.sizes.TAG - 5}z`, fill: colour === VERMILLION ? DARK : colour, "pointer-events": "none" }),
    text(w / 2, 13.5, box.tag, { "font-size": 12, "font-weight": 700, "text-anchor": "middle", fill: colour === ORANGE ? "#000" : "#fff", "pointer-events": "none" }),
  ];
}

function severity(graph, box) {
  const found = box.marks.map((i) => graph.nodes[i].mark && graph.nodes[i].mark.severity);
  return found.includes("error") ? VERMILLION : found.includes("warning") ? ORANGE : BLUE;
}

// What occurs in the picture, as [sign, words]: the signs of legend.py.
export function legend(graph, scene) {
  const shown = scene.boxes.filter((at) => !at.open).map((at) => graph.boxes[at.id]);
  const kinds = new Set(scene.lines.map((line) => line.kind)), nodes = shown.filter((box) => box.leaf).map((box) => graph.nodes[box.node]);
  const pills = new Set([...nodes.filter(({ kind }) => kind === "parameter").map((node) => (node.train === 0 ? "frozen" : node.state)),
    ...shown.map((box) => graph.learns[box.id]).filter(Boolean)]);
  const some = (...names) => names.some((name) => pills.has(name));
  const sign = (...parts) => svg("svg", { width: 28, height: 16, viewBox: "-14 -8 28 16", "aria-hidden": "true" }, parts);
  const line = (kind) => svg("path", { d: "M-14 0h28", fill: "none", stroke: LINES[kind][0], "stroke-width": LINES[kind][1], "stroke-dasharray": LINES[kind][2] });
  const pill = (state) => rect(-13, -6, 26, 12, { rx: 6, ...pillLook(state) });
  const stack = (many) => [rect(-13, -8, 26, 12, { rx: 3, fill: "currentColor", "fill-opacity": 0.07, ...stroke("data") }),
    svg("path", { d: Array.from({ length: many }, (_, i) => `M${-11 + 2 * i} ${6 + 2 * i}h${22 - 4 * i}`).join(""), fill: "none", stroke: GREY, "stroke-width": 1.1 })];
  const norms = ends(scene);
  return [
    [scene.lines.some(({ cut }) => cut), () => [svg("circle", { r: 7, fill: VERMILLION }), svg("path", { d: "M-3 -3l6 6m0 -6l-6 6", stroke: "#fff", "stroke-width": 2, "stroke-linecap": "round" })], "the gradient is lost here"],
    [kinds.has("flows"), () => line("flows"), "data goes down, its gradient comes back"],
    [norms && norms[1] - norms[0] >= 0.5, () => svg("path", { d: "M-14 -.6L14 -2V2L-14 .6z", fill: BLUE }), norms && `width: gradient norm ${digits(10 ** norms[0])} … ${digits(10 ** norms[1])}`],
    [kinds.has("lost"), () => line("lost"), "data goes on, its gradient is lost"],
    [kinds.has("starved"), () => line("starved"), "has history, no gradient arrives"],
    [kinds.has("data"), () => line("data"), "data only, no gradient wanted"],
    [some("flows"), () => pill("flows"), "parameter that gets a gradient"],
    [some("starved", "zero", "nan", "inf", "lost"), () => pill("starved"), "parameter without a good gradient"],
    [some("frozen"), () => pill("frozen"), "frozen parameter"],
    [some("unused", "data"), () => pill("unused"), "parameter without use for this loss"],
    [nodes.some(({ kind }) => kind === "input"), () => rect(-13, -6, 26, 12, { fill: "none", ...stroke("data") }), "input"],
    [shown.some((box) => !box.leaf), () => stack(1), "closed: more inside"],
    [shown.some((box) => box.kind === "repeat"), () => stack(3), "equal blocks, one after the other"],
    [scene.boxes.some((at) => graph.off.has(at.id)), () => rect(-13, -6, 26, 12, { rx: 3, fill: "none", stroke: "currentColor", "stroke-width": 1.6, ...DOTS }), "gradients were switched off"],
  ].filter(([occurs]) => occurs).map(([, drawn, words]) => [sign(drawn()), words]);
}
