// The keys of the graph: arrows go from box to box, Enter opens, "+", "-" and "0" zoom, "/" finds.

const WAYS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

// The nearest box in a direction; an open box counts by its header, so that one can walk into it.
function towards(boxes, from, [dx, dy]) {
  const middle = (box) => [box.x + box.w / 2, box.y + (box.open ? 12 : box.h / 2)];
  const [x, y] = middle(from);
  let best = -1, least = Infinity;
  for (const box of boxes) {
    if (box.id === from.id) continue;
    const [bx, by] = middle(box), along = (bx - x) * dx + (by - y) * dy, across = Math.abs((bx - x) * dy) + Math.abs((by - y) * dx);
    const far = along + (dx ? 4 : 1.2) * across;
    if (along > 1 && far < least) [best, least] = [box.id, far];
  }
  return best;
}

// `act` says what is drawn (`scene`), where the keyboard is (`at`, `parent`), and does what the keys ask for.
export function keyboard(canvas, act) {
  canvas.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const boxes = act.scene().boxes.filter((box) => box.id !== 0), way = WAYS[event.key];
    if (!boxes.length) return;
    let to = -1;
    if (way && event.shiftKey) act.pan(-60 * way[0], -60 * way[1]);
    else if (way) to = towards(boxes, act.at(), way);
    else if (event.key === "Home") to = boxes[0].id;
    else if (event.key === "End") to = boxes[boxes.length - 1].id;
    else if (event.key === "Enter" || event.key === " ") act.toggle();
    else if (event.key === "Escape") to = act.parent();
    else if (event.key === "+" || event.key === "=") act.zoom(1.25);
    else if (event.key === "-") act.zoom(1 / 1.25);
    else if (event.key === "0") act.fit();
    else if (event.key === "/") act.find();
    else return;
    event.preventDefault();
    if (to > 0) act.go(to);
  });
}
