// Where everything stands. The same arithmetic as place.py, whose docstring explains the steps; a test compares the two.
// How large a closed box is comes with the data.

import { CHILD, IN, OUT, BEND, kindOf, indexOf } from "./model.js";

let size = {}; // the constants of size.py and place.py, by their names there

const inside = (value, low, high) => Math.max(low, Math.min(value, high));

function spread(wishes, distances, weights) {
  let shift = 0;
  const shifts = [0, ...distances.map((distance) => (shift += distance))];
  const blocks = [];
  wishes.forEach((wish, i) => {
    let mean = wish - shifts[i], weight = weights[i], number = 1;
    while (blocks.length && blocks[blocks.length - 1][0] > mean) {
      const [before, heavy, many] = blocks.pop();
      mean = (before * heavy + mean * weight) / (heavy + weight);
      weight += heavy;
      number += many;
    }
    blocks.push([mean, weight, number]);
  });
  return blocks.flatMap(([mean, , number]) => Array(number).fill(mean)).map((mean, i) => mean + shifts[i]);
}

// {width, height, boxes: [{id, x, y, w, h, depth, open}], lines: [{box, link, points, kind, cut, count, norm}]}, parents first.
export function place(graph, open) {
  size = graph.sizes;
  const layout = opened(graph, open, 0);
  const scene = { width: layout.w, height: layout.h, boxes: [], lines: [] };
  put(layout, scene, 0, 0, 0);
  return scene;
}

function opened(graph, open, name) {
  const box = graph.boxes[name], inner = new Map();
  for (const child of box.children) if (open.has(child) && graph.boxes[child].children.length) inner.set(child, opened(graph, open, child));
  const sizeOf = (child) => (inner.has(child) ? [inner.get(child).w, inner.get(child).h] : [graph.boxes[child].wide, graph.boxes[child].tall]);
  const all = { name, box, inner, rows: box.rows };
  all.tall = (thing) => (kindOf(thing) === CHILD ? sizeOf(indexOf(thing))[1] : 0);
  all.wide = box.rows.map((row) => row.map((thing) => (kindOf(thing) === CHILD ? sizeOf(indexOf(thing))[0] : kindOf(thing) === BEND ? size.BEND : size.PORT)));
  all.spot = new Map();
  box.rows.forEach((row, r) => row.forEach((thing, i) => all.spot.set(thing, [r, i])));
  all.fed = new Set(box.links.map((link) => link.target));
  all.feeding = new Set(box.links.map((link) => link.source));
  all.ways = [];
  all.steps = stepsOf(all);
  all.x = across(all);
  all.w = centred(all, name ? box.head : 0);
  down(all);
  return all;
}

function port(layout, thing) {
  const [row, i] = layout.spot.get(thing);
  return layout.x[row][i] - layout.w / 2;
}

// Which links share bends: those of one kind from a source that has several, and those to a target whose sources have one each.
function sharing(links) {
  const several = new Map(), from = (link) => `${link.source} ${link.kind}`;
  for (const link of links) several.set(from(link), (several.get(from(link)) || 0) + 1);
  return (link) => (several.get(from(link)) > 1 ? `from ${from(link)}` : `to ${link.target} ${link.kind}`);
}

// The ways of all links, cut at the rows; links that share a trunk share its steps.
function stepsOf({ box, inner, rows, spot, fed, ways }) {
  const trunks = new Map(), steps = new Map(), shared = sharing(box.links);
  const trunkOf = (link) => { const key = shared(link); if (!trunks.has(key)) trunks.set(key, []); return trunks.get(key); };
  rows.forEach((row, r) => row.forEach((thing, i) => { if (kindOf(thing) === BEND) trunkOf(box.links[indexOf(thing)]).push([r, i]); }));
  for (const link of box.links) {
    const from = kindOf(link.source) === CHILD && inner.get(indexOf(link.source));
    const to = kindOf(link.target) === CHILD && inner.get(indexOf(link.target));
    const out = from ? port(from, 4 * from.box.exits.indexOf(link.kind) + OUT) : 0;
    let came = 0;
    if (to) {
      const entry = to.box.entries.indexOf(link.source);
      came = port(to, 4 * (entry >= 0 ? entry : to.box.entries.length - 1) + IN);
    }
    const start = spot.get(link.source), end = spot.get(link.target);
    const way = [start, ...trunkOf(link).filter(([r]) => start[0] < r && r < end[0]), end];
    const leaf = kindOf(link.source) === CHILD && !fed.has(link.source);
    const pull = leaf || way.length > 2 || link.kind === "data" ? size.SIDE : 1;
    ways.push(way.slice(1).map((b, i) => {
      const a = way[i], first = i === 0, last = i === way.length - 2, key = `${a} ${b} ${link.kind}`;
      if (!steps.has(key)) steps.set(key, { a, b, offsetA: first ? out : 0, offsetB: last ? came : 0, pull: first || last ? pull : size.STIFF, xa: 0, xb: 0 });
      return steps.get(key);
    }));
  }
  return [...steps.values()];
}

function across({ rows, wide, steps }) {
  const gaps = rows.map((row) => row.slice(1).map((b, i) => (kindOf(row[i]) === BEND && kindOf(b) === BEND ? size.LANE : size.COLUMN)));
  const apart = wide.map((row, r) => row.slice(1).map((b, i) => (row[i] + b) / 2 + gaps[r][i]));
  const add = (sum, value) => sum + value;
  const packed = wide.map((row, r) => {
    let at = -(row.reduce(add, 0) + gaps[r].reduce(add, 0)) / 2 + row[0] / 2;
    return [at, ...apart[r].map((distance) => (at += distance))];
  });
  const half = Math.max(0, ...packed.map((row, r) => wide[r][0] / 2 - row[0]));
  const x = packed.map((row) => [...row]);
  const above = rows.map((row) => row.map(() => [])), below = rows.map((row) => row.map(() => []));
  for (const step of steps) {
    above[step.b[0]][step.b[1]].push(step);
    below[step.a[0]][step.a[1]].push(step);
  }
  for (let sweep = 0; sweep < size.SWEEPS; sweep++) {
    const falling = sweep % 2 === 0;
    const order = rows.map((_, r) => r);
    for (const r of falling ? order.slice(1) : order.slice(0, -1).reverse()) {
      const wishes = [], weights = [];
      rows[r].forEach((_, i) => {
        let total = 0, pull = 0, most = 0;
        for (const step of (falling ? above : below)[r][i]) {
          const [other, offset] = falling ? [step.a, step.offsetA - step.offsetB] : [step.b, step.offsetB - step.offsetA];
          total += (x[other[0]][other[1]] + offset) * step.pull;
          pull += step.pull;
          most = Math.max(most, step.pull);
        }
        wishes.push(pull ? total / pull : x[r][i]);
        weights.push(pull ? most : size.LOOSE);
      });
      const room = half - (wide[r][0] / 2 - packed[r][0]); // how far this row may move to either side
      x[r] = spread(wishes, apart[r], weights).map((at, i) => inside(at, packed[r][i] - room, packed[r][i] + room));
    }
  }
  return x;
}

function centred(layout, least) {
  const { x, wide } = layout;
  const left = x.length ? Math.min(...x.map((row, r) => row[0] - wide[r][0] / 2)) : 0;
  const right = x.length ? Math.max(...x.map((row, r) => row[row.length - 1] + wide[r][row.length - 1] / 2)) : 0;
  const w = Math.max(right - left + 2 * size.PADDING, least);
  const shift = (w - (right - left)) / 2 - left;
  layout.x = x.map((row) => row.map((at) => at + shift));
  return w;
}

function down(layout) {
  const { rows, x, steps, box, name } = layout;
  const reach = rows.map(() => 0);
  for (const { a, b, offsetA, offsetB } of steps) {
    reach[a[0]] = Math.max(reach[a[0]], Math.abs(x[b[0]][b[1]] + offsetB - x[a[0]][a[1]] - offsetA));
  }
  const entries = box.entries.length > 0, exits = box.exits.length > 0;
  let y = name ? size.HEADER + (entries ? 0 : size.TOP) : size.PADDING;
  layout.y = [];
  layout.high = [];
  rows.forEach((row, r) => {
    layout.y.push(y);
    layout.high.push(Math.max(...row.map(layout.tall)));
    const ported = (r === 0 && entries) || (r === rows.length - 2 && exits);
    y += layout.high[r];
    if (r < rows.length - 1) y += (ported ? size.PORT_GAP : size.ROW) + Math.min(size.REACH * reach[r], size.MORE);
  });
  layout.h = exits ? y : y + size.PADDING;
}

function topOf({ rows, y, high, tall, fed, feeding }, [r, i]) {
  const thing = rows[r][i], free = high[r] - tall(thing);
  if (kindOf(thing) !== CHILD || !feeding.has(thing)) return y[r];
  return y[r] + (fed.has(thing) ? free / 2 : free);
}

function spanOf({ rows, x, wide, inner }, [r, i], offset) {
  const thing = rows[r][i];
  if (kindOf(thing) === CHILD && !inner.has(indexOf(thing))) return [x[r][i] - (wide[r][i] / 2 - size.EDGE), x[r][i] + (wide[r][i] / 2 - size.EDGE)];
  return [x[r][i] + offset, x[r][i] + offset];
}

// The x of both ends of each step.
function setEnds(layout) {
  const above = new Map(), below = new Map();
  const add = (map, spot, step) => map.set(String(spot), [...(map.get(String(spot)) || []), step]);
  for (const step of layout.steps) {
    const a = spanOf(layout, step.a, step.offsetA), b = spanOf(layout, step.b, step.offsetB);
    const middleA = (a[0] + a[1]) / 2, middleB = (b[0] + b[1]) / 2, low = Math.max(a[0], b[0]), high = Math.min(a[1], b[1]);
    if (low <= high) step.xa = step.xb = inside((middleA + middleB) / 2, low, high);
    else [step.xa, step.xb] = [inside(middleB, ...a), inside(middleA, ...b)];
    add(below, step.a, step);
    add(above, step.b, step);
  }
  for (const mine of below.values()) keepApart(mine, "xa", spanOf(layout, mine[0].a, mine[0].offsetA));
  for (const mine of above.values()) keepApart(mine, "xb", spanOf(layout, mine[0].b, mine[0].offsetB));
}

function keepApart(mine, end, [low, high]) {
  if (low === high || mine.length < 2) return;
  const last = mine.length - 1, turn = [...mine].sort((s, t) => s[end] - t[end]), distance = Math.min(size.APART, (high - low) / last);
  const found = spread(turn.map((step) => step[end]), Array(last).fill(distance), Array(last + 1).fill(1));
  turn.forEach((step, n) => { step[end] = inside(found[n], low + n * distance, high - (last - n) * distance); });
}

function put(layout, scene, x, y, depth) {
  const { rows, inner, box } = layout;
  scene.boxes.push({ id: layout.name, x, y, w: layout.w, h: layout.h, depth, open: true });
  rows.forEach((row, r) => row.forEach((thing, i) => {
    if (kindOf(thing) !== CHILD) return;
    const child = indexOf(thing), left = x + layout.x[r][i] - layout.wide[r][i] / 2, top = y + topOf(layout, [r, i]);
    if (inner.has(child)) put(inner.get(child), scene, left, top, depth + 1);
    else scene.boxes.push({ id: child, x: left, y: top, w: layout.wide[r][i], h: layout.tall(thing), depth: depth + 1, open: false });
  }));
  setEnds(layout);
  box.links.forEach((link, number) => {
    const way = layout.ways[number], end = way[way.length - 1];
    // A line that comes in begins at the box's upper border, unless the header's text is in its way.
    const enters = kindOf(link.source) === IN && way[0].xa >= box.head - size.PADDING + size.CLEAR;
    const points = [[x + way[0].xa, enters ? y : y + topOf(layout, way[0].a) + layout.tall(link.source)]];
    for (const { a, b, xa, xb } of way) points.push([x + xa, y + layout.y[a[0]] + layout.high[a[0]]], [x + xb, y + layout.y[b[0]]]);
    points.push([x + end.xb, y + topOf(layout, end.b)]);
    scene.lines.push({ box: layout.name, number, link, points, kind: link.kind, cut: link.cut, count: link.count, norm: link.norm });
  });
}
