// The facts of a box beside it, while a pointer rests on it or the keyboard is at it.

import { el } from "./dom.js";

// `boxOf(event)` gives the box under a pointer, -1 for none; `look(id)` gives where it is on the canvas and what is known about it.
export function hints(canvas, boxOf, look) {
  const hint = el("div", { class: "gx-hint", role: "tooltip", hidden: true });
  canvas.after(hint);
  let waiting = 0;

  function quiet() {
    clearTimeout(waiting);
    hint.hidden = true;
  }

  function show(id) {
    if (id <= 0) return quiet();
    const { x, y, wide, high, width, height, box, line, kind, facts } = look(id);
    hint.replaceChildren(...[
      el("strong", null, box.label), el("div", { class: "gx-kind" }, kind),
      el("dl", { class: "gx-facts" }, facts.map(([name, text]) => [el("dt", null, name), el("dd", null, text)])),
      line && el("div", { class: "gx-line" }, line.where, el("code", null, line.code)),
    ].filter(Boolean));
    hint.hidden = false;
    // Beside the box, because the graph goes on below it; where there is no room, below or above.
    const [w, h] = [hint.offsetWidth, hint.offsetHeight], below = y + high + 8, right = x + wide + 10;
    let left = right + w + 6 < width ? right : x - w - 10, top = Math.max(6, Math.min(y, height - h - 6));
    if (left < 6) {
      left = Math.max(6, Math.min(x, width - w - 6));
      top = below + h < height || y - h - 8 < 0 ? below : y - h - 8;
    }
    hint.style.left = `${left}px`;
    hint.style.top = `${top}px`;
  }

  canvas.addEventListener("pointerover", (event) => {
    if (event.buttons || event.pointerType === "touch") return;
    clearTimeout(waiting);
    const id = boxOf(event);
    if (id < 0) quiet();
    else waiting = setTimeout(() => show(id), 140);
  });
  canvas.addEventListener("pointerleave", quiet);
  return { show, quiet };
}
