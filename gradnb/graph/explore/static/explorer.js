// The explorer: one state, drawn anew whenever it changes, and what the mouse and the keyboard do to it.

import { el, svg, button } from "./dom.js";
import { read, ancestors, search, facts, kindWord, placeText, FILTERS } from "./model.js";
import { place } from "./layout.js";
import { draw, legend } from "./draw.js";
import { view, gestures } from "./view.js";
import { panel } from "./panel.js";
import { toolbar } from "./toolbar.js";
import { hints } from "./hint.js";
import { keyboard } from "./keyboard.js";
import { scaleOf, power } from "./colour.js";
import { standing, copy, pageText, download } from "./save.js";

const STILL = matchMedia("(prefers-reduced-motion: reduce)");

// Builds the explorer in `host`. `page` gives the text of the self-contained page around it, where it already stands in one.
// Gives a function that takes it away.
export function mount(host, data, { css = "", source = "", page = null } = {}) {
  const picture = read(data);
  const scale = scaleOf(picture);
  const state = { step: data.first, open: new Set(), chosen: -1, focus: -1, query: "", found: [], hit: -1, filter: "", colours: false, playing: 0, touched: false };
  let graph = picture.at(state.step), scene = null, elements = new Map();

  const layer = svg("g", { class: "gx-layer", role: "presentation" });
  const canvas = svg("svg", { class: "gx-canvas", role: "tree", "aria-label": `Autograd graph. ${data.verdict || ""}`.trim() }, layer);
  const told = el("div", { class: "gx-told", role: "status", hidden: true });
  const seen = view(canvas, layer);
  const zoom = el("div", { class: "gx-zoom", role: "group", "aria-label": "Zoom" },
    button("minus", "Zoom out (−)", () => zoomed(1 / 1.25)), button("plus", "Zoom in (+)", () => zoomed(1.25)), button("fit", "Fit (0)", () => { seen.fit(); state.touched = true; }));
  const side = panel(picture, goTo);
  const foot = el("div", { class: "gx-foot" });
  const act = { find, next, filter, colour, step: toStep, play, copy: copySvg, save: saveHtml, toGraph: () => focusBox(state.focus) };
  const bar = toolbar(picture, act, { hasNorms: Boolean(scale) });
  // The last attribute keeps the notebook's own keys (Enter, arrows, "0") away while the keyboard is in here.
  const root = el("div", { class: "gradnb-explorer", "data-lm-suppress-shortcuts": "true" },
    bar.root, el("div", { class: "gx-main" }, el("div", { class: "gx-stage" }, canvas, told, zoom), side.root), foot);
  host.append(root);

  const isOpen = (box) => !box.leaf && (box.id === 0 || state.open.has(box.key));
  // The box that stands for this one on the screen: itself, or the closed one around it.
  const shown = (id) => [...ancestors(graph, id)].reverse().find((up) => !isOpen(graph.boxes[up])) ?? id;

  function render(anchor = -1) {
    const old = scene && new Map(scene.boxes.map((box) => [graph.boxes[box.id].key, seen.onScreen(box.x, box.y)]));
    const kept = old && anchor >= 0 && old.get(graph.boxes[shown(anchor)].key);
    const focused = layer.contains(document.activeElement);
    scene = place(graph, new Set(graph.boxes.filter(isOpen).map((box) => box.id)));
    const fits = (FILTERS.find(({ name }) => name === state.filter) || {}).fits;
    const passes = fits && graph.inside.map((nodes) => nodes.some((i) => fits(graph.nodes[i])));
    if (!scene.boxes.some((box) => box.id === state.focus)) state.focus = state.chosen >= 0 ? shown(state.chosen) : scene.boxes[1] ? scene.boxes[1].id : 0;
    elements = draw(layer, graph, scene, {
      passes, chosen: state.chosen, focus: state.focus, hits: new Set(state.found.map(shown)), scale: state.colours ? scale : null, label: labelOf,
    });
    Object.assign(seen.state, { wide: scene.width, high: scene.height });
    const at = kept && scene.boxes.find((box) => box.id === shown(anchor));
    if (at) seen.pin(at.x, at.y, ...kept);
    else if (old) seen.apply();
    if (old && !STILL.matches && scene.boxes.length < 150) glide(old);
    if (focused) focusBox(state.focus);
    tell(fits);
    bar.update({ ...state, graph, playing: Boolean(state.playing) });
    hint.quiet();
  }

  // Boxes glide from where they were; what is new fades in.
  function glide(old) {
    const { x, y, k } = seen.state;
    for (const box of scene.boxes) if (box.id !== 0) {
      const element = elements.get(box.id), from = old.get(graph.boxes[box.id].key);
      if (!from) element.classList.add("gx-fresh");
      else if (element.animate) element.animate([{ transform: `translate(${(from[0] - x) / k}px, ${(from[1] - y) / k}px)` }, { transform: `translate(${box.x}px, ${box.y}px)` }], { duration: 180, easing: "ease-out" });
    }
    layer.querySelectorAll(".gx-links").forEach((links) => links.classList.add("gx-fresh"));
  }

  function tell(fits) {
    const { name, label } = FILTERS.find((one) => one.name === state.filter) || {};
    if (fits) {
      const many = graph.nodes.filter(fits).length;
      told.textContent = `${label}: ${many} of ${graph.nodes.length} nodes; the others are dimmed`;
    }
    told.hidden = !name;
    const closed = scene.boxes.filter((box) => !box.open && !graph.boxes[box.id].leaf);
    const hidden = closed.reduce((sum, box) => sum + graph.boxes[box.id].operations, 0);
    const folded = closed.length ? `${hidden.toLocaleString("en")} operation${hidden === 1 ? "" : "s"} in ${closed.length} closed box${closed.length === 1 ? "" : "es"}` : "nothing is folded";
    const signs = legend(graph, scene).map(([sign, text]) => el("span", null, sign, text));
    if (state.colours) signs.push(el("span", null, `norm ${power(scale.low)}`, el("i", { class: "gx-scale", style: `background:${scale.gradient}` }), power(scale.high)));
    foot.replaceChildren(
      el("div", { class: "gx-legend", "aria-label": "Legend" }, signs),
      el("div", { class: "gx-notes" }, [`${scene.boxes.length - 1} boxes shown, ${folded}`, ...graph.notes].map((note) => note.charAt(0).toUpperCase() + note.slice(1).replace(/\.$/, "")).join(". "), "."),
      el("div", { class: "gx-keys" }, "Drag to move, Ctrl + wheel to zoom, Enter opens a box, arrows go from box to box, / finds."));
  }

  function labelOf(id) {
    const box = graph.boxes[id];
    return [box.label, kindWord(graph, box), box.leaf ? "" : box.detail, ...facts(picture, graph, id).filter(([name]) => ["marked", "holds", "state", "worst inside", "shape"].includes(name)).map(([, text]) => text)].filter(Boolean).join(", ");
  }

  // -- choosing, opening, finding ------------------------------------------------------------------------------------

  function choose(id) {
    state.chosen = state.focus = id;
    elements.forEach((element, other) => { element.classList.toggle("gx-chosen", other === id); element.setAttribute("aria-selected", String(other === id)); });
    rove();
    side.show(graph, id);
  }

  function toggle(id) {
    const box = graph.boxes[id];
    if (!box.leaf && id !== 0) {
      if (!state.open.delete(box.key)) state.open.add(box.key);
      state.touched = true;
      state.focus = id;
      render(id);
    }
    choose(id);
    grow();
  }

  function reveal(id) {
    const closed = ancestors(graph, id).filter((up) => !isOpen(graph.boxes[up]));
    if (!closed.length) return;
    const anchor = closed[closed.length - 1];
    closed.forEach((up) => state.open.add(graph.boxes[up].key));
    render(anchor);
    grow();
  }

  function show(id) {
    reveal(id);
    choose(id);
    state.touched = true;
    const at = rectOf(id);
    const [x, y] = seen.onScreen(at.x, at.y), { width, height } = seen.size();
    if (x < 0 || y < 0 || x + at.w * seen.state.k > width || y + 40 > height) seen.centre(at);
  }

  // One of these nodes; with the next call the next of them.
  function goTo(nodes) {
    const boxes = nodes.map((node) => graph.of[node]).filter((id) => id >= 0);
    if (boxes.length) show(boxes[(boxes.indexOf(state.chosen) + 1) % boxes.length]);
  }

  function find(text) {
    Object.assign(state, { query: text, found: search(graph, text), hit: -1 });
    render(state.focus);
  }

  function next(way) {
    const many = state.found.length;
    if (!many) return;
    state.hit = state.hit < 0 ? (way > 0 ? 0 : many - 1) : (state.hit + way + many) % many;
    show(state.found[state.hit]);
    render(state.found[state.hit]);
  }

  function filter(name) {
    state.filter = state.filter === name ? "" : name;
    render(state.focus);
  }

  function colour() {
    state.colours = !state.colours;
    render(state.focus);
  }

  function toStep(step) {
    if (step === state.step) return;
    const before = graph, keyOf = (id) => (id >= 0 ? before.boxes[id].key : null);
    const [chosen, focus] = [keyOf(state.chosen), keyOf(state.focus)];
    const same = data.steps[step].graph === data.steps[state.step].graph;
    const old = seen.onScreen(scene.width / 2, 0);
    state.step = step;
    graph = picture.at(step);
    if (!same) openAtFirst(true);
    const idOf = (key) => graph.boxes.findIndex((box) => box.key === key);
    const marked = markedFirst();
    state.chosen = idOf(chosen) > 0 ? idOf(chosen) : marked ? graph.of[marked.id] : -1;
    state.focus = idOf(focus);
    state.found = search(graph, state.query);
    state.hit = Math.min(state.hit, state.found.length - 1);
    scene = null;
    render();
    seen.pin(scene.width / 2, 0, ...old);
    side.show(graph, state.chosen);
  }

  function play() {
    clearInterval(state.playing);
    state.playing = state.playing ? 0 : setInterval(() => (root.isConnected ? toStep((state.step + 1) % picture.steps.length) : stop()), 900);
    bar.update({ ...state, graph, playing: Boolean(state.playing) });
  }
  const stop = () => { clearInterval(state.playing); state.playing = 0; };

  function openAtFirst(more) {
    if (!more) state.open.clear();
    for (const box of graph.boxes) if (box.open && !box.leaf) state.open.add(box.key);
  }

  // The node that a first look should fall on: a root of the first finding.
  function markedFirst() {
    const rank = ({ mark }) => (mark.root ? 0 : 1000) + (mark.finding < 0 ? 500 : mark.finding);
    return graph.nodes.filter((node) => node.mark).sort((a, b) => rank(a) - rank(b))[0];
  }

  // -- mouse and keyboard --------------------------------------------------------------------------------------------

  const rectOf = (id) => scene.boxes.find((box) => box.id === shown(id)) || scene.boxes[0];
  const boxOf = (event) => { const found = event.target.closest && event.target.closest("[data-box]"); return found ? Number(found.dataset.box) : -1; };

  function focusBox(id) {
    const element = elements.get(id);
    if (element) element.focus({ preventScroll: true });
  }

  function rove() {
    elements.forEach((element, id) => element.setAttribute("tabindex", id === state.focus ? "0" : "-1"));
  }

  function zoomed(factor) {
    state.touched = true;
    hint.quiet();
    seen.zoom(factor);
  }

  keyboard(canvas, {
    scene: () => scene, parent: () => graph.boxes[state.focus].parent, at: () => rectOf(state.focus),
    toggle: () => toggle(state.focus), pan: seen.pan, zoom: zoomed, fit: () => seen.fit(), find: () => bar.field.focus(),
    go(id) {
      state.focus = id;
      rove();
      seen.reveal(rectOf(id));
      focusBox(id);
    },
  });
  for (const name of ["keydown", "keypress", "keyup"]) root.addEventListener(name, (event) => event.stopPropagation());

  const hint = hints(canvas, boxOf, (id) => {
    const box = graph.boxes[id], line = box.leaf && placeText(picture, graph.nodes[box.node].at), at = rectOf(id), k = seen.state.k;
    const [x, y] = seen.onScreen(at.x, at.y);
    return { x, y, wide: at.w * k, high: (at.open ? graph.sizes.HEADER : at.h) * k, ...seen.size(), box, line, kind: kindWord(graph, box), facts: facts(picture, graph, id) };
  });
  canvas.addEventListener("focusin", (event) => {
    const id = boxOf(event);
    if (id <= 0) return;
    state.focus = id;
    rove();
    if (event.target.matches(":focus-visible")) hint.show(id);
  });
  canvas.addEventListener("focusout", hint.quiet);
  canvas.addEventListener("click", (event) => {
    const id = boxOf(event);
    if (id <= 0) return;
    toggle(id);
    focusBox(id);
    hint.quiet();
  });
  gestures(canvas, seen, () => { state.touched = true; hint.quiet(); });

  // -- taking it away ------------------------------------------------------------------------------------------------

  const title = () => `gradnb: ${data.verdict || graph.title || "autograd graph"}`.replaceAll("`", "");
  const standingNow = () => standing(canvas, layer, scene, title());
  function say(text) {
    told.textContent = text;
    told.hidden = false;
    setTimeout(() => tell(FILTERS.find(({ name }) => name === state.filter)?.fits), 2500);
  }
  function copySvg() { return copy(standingNow(), root, say); }
  function saveHtml() {
    download(page ? page() : pageText({ title: title(), css, source, data, still: standingNow() }), "gradnb.html");
    say("Saved as gradnb.html, one page that needs no kernel.");
  }

  // -- first sight ---------------------------------------------------------------------------------------------------

  // As high as the picture needs, within reason: opening a box may make it higher, nothing makes it lower.
  function grow() {
    const wish = Math.min(most(), scene.height * seen.state.k + 32);
    if (wish > canvas.clientHeight) high(wish);
    seen.apply();
  }

  const most = () => Math.max(380, Math.min(720, window.innerHeight * 0.7));
  const high = (px) => root.style.setProperty("--gx-high", `${Math.ceil(px)}px`);

  function first() {
    const room = canvas.clientWidth - 32, scaled = Math.max(0.7, Math.min(1, room / scene.width));
    high(Math.max(380, Math.min(most(), scene.height * scaled + 32)));
    seen.fit(0.7);
    const { wide, high: tall, k: now } = seen.state;
    if (state.chosen > 0 && (wide * now > room + 2 || tall * now > canvas.clientHeight)) {
      seen.centre(rectOf(state.chosen), wide * now > room + 2);
      seen.fill();
    }
  }

  openAtFirst();
  const marked = markedFirst();
  if (marked) state.chosen = state.focus = shown(graph.of[marked.id]);
  render();
  side.show(graph, marked ? graph.of[marked.id] : -1);
  let width = 0;
  const watch = new ResizeObserver(() => { // a front end may build the output before it has a size
    if (!canvas.clientWidth || canvas.clientWidth === width) return;
    if (!width || !state.touched) first();
    else seen.apply();
    width = canvas.clientWidth;
  });
  watch.observe(canvas);
  const printed = () => seen.fit();
  addEventListener("beforeprint", printed);
  return () => { stop(); watch.disconnect(); removeEventListener("beforeprint", printed); hint.quiet(); root.remove(); };
}

// In the self-contained page: the data lies in it, and the page's own text is what "save" saves.
export function page() {
  const text = `<!doctype html>\n${document.documentElement.outerHTML}\n`;
  const data = JSON.parse(document.getElementById("gradnb-data").textContent);
  mount(document.getElementById("gradnb"), data, { page: () => text });
}
