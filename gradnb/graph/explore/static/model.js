// The payload (payload.py) as objects: nodes and boxes of the chosen step, the user's source, and what search and filters ask.

export const CHILD = 0;
export const IN = 1;
export const OUT = 2;
export const BEND = 3;
export const kindOf = (code) => code & 3;
export const indexOf = (code) => code >> 2;

const KINDS = ["flows", "starved", "lost", "data"];
const TEXTS = ["kind", "label", "name", "module", "shape", "dtype", "fn", "state", "region", "function", "detail", "tag"];
const NODE = {
  kind: 0, label: 0, name: 0, module: 0, shape: 0, dtype: 0, fn: 0, state: 0, region: 0, function: 0,
  grad: 0, train: -1, norm: null, value: null, at: -1, from: [], mark: null,
};
const BOX = {
  kind: 0, label: 0, detail: 0, tag: 0, state: 0, parent: -1, node: -1, operations: 0, parameters: 0, frozen: 0, norm: null, open: 0, told: 0, wide: 0, tall: 0, head: 0,
  lines: [], marks: [], rows: [], entries: [], exits: [],
};

function unpack(columns, changes, defaults, texts) {
  const rows = Array.from({ length: columns.count }, (_, id) => ({ id }));
  for (const [name, empty] of Object.entries(defaults)) {
    const text = TEXTS.includes(name);
    const column = columns[name] || {};
    const changed = (changes && changes[name]) || {};
    rows.forEach((row, i) => {
      let value = i in changed ? changed[i] : i in column ? column[i] : empty;
      if (name === "norm" || name === "value") value = number(value);
      row[name] = text ? texts[value] : value;
    });
  }
  return rows;
}

function number(value) {
  return typeof value === "string" ? { nan: NaN, inf: Infinity, "-inf": -Infinity }[value] : value;
}

// The whole picture. `at(step)` gives one step's graph; each is unpacked once.
export function read(data) {
  const made = new Map();
  const places = data.places.map(([source, line, start, end, name]) => ({ source, line, start, end, function: name }));
  const picture = { steps: data.steps, sources: data.sources, places, findings: data.findings };
  picture.at = (step) => {
    if (!made.has(step)) made.set(step, unpackStep(data, data.steps[step]));
    return made.get(step);
  };
  return picture;
}

function unpackStep(data, step) {
  const packed = data.graphs[step.graph];
  const nodes = unpack(packed.nodes, step.changes.nodes, NODE, data.texts);
  const boxes = unpack(packed.boxes, step.changes.boxes, BOX, data.texts);
  for (const node of nodes) if (node.mark) {
    const [word, text, severity, finding, root] = node.mark;
    node.mark = { word, text, severity, finding, root: Boolean(root) };
  }
  const links = step.changes.links || {}, norms = step.changes.norms || packed.norms;
  boxes.forEach((box, i) => {
    box.links = (links[i] || packed.links[i]).map(([source, target, kind, cut = 0, count = 1], n) =>
      ({ source, target, kind: KINDS[kind], cut: Boolean(cut), count, norm: norms[i] ? number(norms[i][n]) : null }));
    box.children = box.rows.flat().filter((code) => kindOf(code) === CHILD).map(indexOf);
    box.leaf = box.node >= 0;
    box.lines = box.lines.map((text) => data.texts[text]); // what stands below the label
  });
  const of = new Array(nodes.length).fill(-1);
  for (const box of boxes) if (box.leaf) of[box.node] = box.id;
  for (const box of boxes) {
    box.level = 0;
    for (let up = box.parent; up >= 0; up = boxes[up].parent) box.level++;
  }
  // Where a box stands in the picture, by names: it is found again in another step's graph.
  const key = (box) => box.key ??= box.parent < 0 ? "" : `${key(boxes[box.parent])}/${box.label}#${boxes[box.parent].children.indexOf(box.id)}`;
  boxes.forEach(key);
  const inside = insideOf(boxes);
  return { title: step.title, sizes: data.sizes, nodes, boxes, of, notes: [...packed.notes, ...data.notes], inside, ...lookInside(nodes, boxes, inside) };
}

const WORST = ["lost", "nan", "inf", "zero", "starved", "unused", "flows", "frozen", "data"];

// What a fold does not say of what is in it (shapes.py does the same): `off`, the outermost folds in which all operations ran while
// gradients were switched off, and `learns`, the worst state of the parameters in each.
function lookInside(nodes, boxes, inside) {
  const without = boxes.map((box) => {
    const operations = inside[box.id].map((i) => nodes[i]).filter(({ kind }) => kind === "operation");
    return box.id > 0 && !box.leaf && operations.length > 0 && operations.every(({ region }) => region);
  });
  const learns = boxes.map((box) => {
    const found = box.leaf ? [] : inside[box.id].map((i) => nodes[i]).filter(({ kind }) => kind === "parameter");
    const states = found.map((node) => WORST.indexOf(node.train === 0 ? "frozen" : node.state));
    return states.length ? WORST[Math.min(...states)] : "";
  });
  // The state of the border: a fold whose parameters all get their gradient is well, although data that lost it came in.
  for (const box of boxes) box.shown = learns[box.id] === "flows" && ["lost", "starved", "zero"].includes(box.state) ? "flows" : box.state;
  return { off: new Set(boxes.filter((box) => without[box.id] && !without[box.parent]).map(({ id }) => id)), learns };
}

// The nodes inside each box, at every depth.
function insideOf(boxes) {
  const inside = boxes.map(() => null);
  const fill = (id) => (inside[id] ??= boxes[id].leaf ? [boxes[id].node] : boxes[id].children.flatMap(fill));
  boxes.forEach((box) => fill(box.id));
  return inside;
}

export function ancestors(graph, id) {
  const found = [];
  for (let up = graph.boxes[id].parent; up >= 0; up = graph.boxes[up].parent) found.push(up);
  return found;
}

export const FILTERS = [
  { name: "trainable", label: "Trainable", told: "parameters that an update reaches", fits: (node) => node.train === 1 },
  { name: "lost", label: "Lost", told: "where a gradient is lost or does not arrive", fits: (node) => ["lost", "starved"].includes(node.state) || (node.mark && node.mark.word.startsWith("lost")) },
  { name: "zero", label: "Zero", told: "gradients that are exactly zero", fits: (node) => node.state === "zero" || node.norm === 0 },
  { name: "nan", label: "NaN", told: "gradients that hold NaN or an infinity", fits: (node) => ["nan", "inf"].includes(node.state) || (node.norm !== null && !Number.isFinite(node.norm)) },
];

// Hits of a search, from the first operation to the last: nodes, and boxes that hold more than one.
export function search(graph, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  const has = (...parts) => parts.some((part) => part && part.toLowerCase().includes(wanted));
  return walk(graph, 0).filter((id) => {
    const box = graph.boxes[id];
    if (!box.leaf) return has(box.label, box.detail);
    const node = graph.nodes[box.node];
    return has(node.label, node.name, node.module, node.fn, node.function, box.label);
  });
}

// All boxes below one, parents first, in the order of the data.
export function walk(graph, id) {
  return graph.boxes[id].children.flatMap((child) => [child, ...walk(graph, child)]);
}

const STATE = {
  flows: "a gradient arrives", zero: "the gradient is exactly zero", nan: "the gradient holds NaN", inf: "the gradient holds an infinity",
  starved: "no gradient arrives", lost: "the gradient is lost", data: "no gradient is wanted", frozen: "frozen",
  unused: "no loss depends on it",
};

export function digits(value) {
  if (value === null || value === undefined) return "";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "Inf" : "-Inf";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e4 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}

// What is known about a box, as [name, text] for the panel and the hint.
export function facts(picture, graph, id) {
  const box = graph.boxes[id];
  const found = [];
  const add = (name, text) => text !== "" && text !== null && text !== undefined && found.push([name, String(text)]);
  const plural = (n, word) => (n ? `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}` : "");
  if (!box.leaf) {
    add("holds", [plural(box.operations, "operation"), plural(box.parameters, "parameter")].filter(Boolean).join(", "));
    if (box.frozen) add("frozen", `${box.frozen} of ${plural(box.parameters, "parameter")}`);
    add(["flows", "data", "frozen"].includes(box.state) ? "state" : "worst inside", STATE[box.state] || box.state);
    if (box.norm !== null) add("gradient norm", digits(box.norm));
    const marked = box.marks.map((node) => graph.nodes[node].mark).filter(Boolean);
    if (marked.length) add("marked", marked.map((mark) => `${mark.word}${mark.text ? `, ${mark.text}` : ""}`).slice(0, 3).join("; "));
    return found;
  }
  const node = graph.nodes[box.node];
  if (node.mark) add("marked", `${node.mark.word}${node.mark.text ? `, ${node.mark.text}` : ""}`);
  if (node.name && node.name !== node.label) add(node.kind === "operation" ? "variable" : "name", node.name);
  if (node.module) add("module", node.module);
  if (node.shape) add("shape", node.shape);
  if (node.dtype) add("dtype", node.dtype);
  add("requires_grad", node.grad ? "True" : "False");
  if (node.fn) add("grad_fn", node.fn);
  if (node.function) add("Function", node.function);
  if (node.region) add("gradients off", node.region);
  if (node.value !== null) add("value", digits(node.value));
  add("state", STATE[node.state] || node.state);
  if (node.norm !== null) add("gradient norm", digits(node.norm));
  return found;
}

export function kindWord(graph, box) {
  if (box.leaf) {
    const node = graph.nodes[box.node];
    if (node.kind !== "parameter") return node.kind;
    return node.train === 1 ? "trainable parameter" : "frozen parameter";
  }
  return { module: "module", repeat: "repeated blocks", chain: "chain of operations", region: "region without gradients", function: "function",
    lines: "stretch of operations", parameters: "parameters", whole: "picture" }[box.kind] || box.kind;
}

// "cell [3], line 12" and the code of a place.
export function placeText(picture, at) {
  if (at < 0) return null;
  const place = picture.places[at];
  const source = picture.sources[place.source];
  return { where: `${source.name}, line ${place.line}`, code: source.lines[place.line - source.first].trim(), place };
}
