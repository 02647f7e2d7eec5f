// What part of the picture is seen: pan, zoom, and bringing a box to where it can be seen. Lengths are px of the canvas.

const LEAST = 0.15, MOST = 3, MARGIN = 16;

export function view(canvas, layer) {
  const state = { k: 1, x: 0, y: 0, wide: 0, high: 0 }; // wide, high: the whole picture, unscaled
  const size = () => ({ width: canvas.clientWidth || 600, height: canvas.clientHeight || 400 });
  const limit = (k) => Math.min(MOST, Math.max(LEAST, k));

  function apply() {
    const { width, height } = size(); // at least a strip of the picture stays in sight
    const strip = 60;
    state.x = Math.min(width - strip, Math.max(strip - state.wide * state.k, state.x));
    state.y = Math.min(height - strip, Math.max(strip - state.high * state.k, state.y));
    layer.setAttribute("transform", `translate(${state.x.toFixed(2)} ${state.y.toFixed(2)}) scale(${state.k.toFixed(4)})`);
  }

  function zoom(factor, cx = size().width / 2, cy = size().height / 2) {
    const k = limit(state.k * factor);
    state.x = cx - ((cx - state.x) * k) / state.k;
    state.y = cy - ((cy - state.y) * k) / state.k;
    state.k = k;
    apply();
  }

  // All of it, never larger than life.
  function fit(least = LEAST) {
    const { width, height } = size();
    state.k = Math.max(least, Math.min(1, (width - 2 * MARGIN) / state.wide, (height - 2 * MARGIN) / state.high));
    state.x = (width - state.wide * state.k) / 2;
    state.y = Math.max(MARGIN, (height - state.high * state.k) / 2);
    if (state.high * state.k > height) state.y = MARGIN;
    apply();
  }

  function centre(box, across = true) {
    const { width, height } = size();
    if (across) state.x = width / 2 - (box.x + box.w / 2) * state.k;
    state.y = height / 2 - (box.y + Math.min(box.h / 2, height / state.k / 3)) * state.k;
    apply();
  }

  // No blank strip above or below a picture that is taller than the canvas.
  function fill() {
    const { height } = size(), tall = state.high * state.k;
    if (tall > height - 2 * MARGIN) state.y = Math.min(MARGIN, Math.max(height - MARGIN - tall, state.y));
    apply();
  }

  // Move no more than is needed to see the box.
  function reveal(box) {
    const { width, height } = size();
    const near = (start, length, room) => (start < MARGIN || length > room - 2 * MARGIN ? MARGIN - start : Math.min(0, room - MARGIN - start - length));
    state.x += near(box.x * state.k + state.x, box.w * state.k, width);
    state.y += near(box.y * state.k + state.y, box.h * state.k, height);
    apply();
  }

  // The point (x, y) of the picture goes to (sx, sy) of the canvas.
  function pin(x, y, sx, sy) {
    state.x = sx - x * state.k;
    state.y = sy - y * state.k;
    apply();
  }

  const pan = (dx, dy) => { state.x += dx; state.y += dy; apply(); };
  const onScreen = (x, y) => [x * state.k + state.x, y * state.k + state.y];
  return { state, zoom, fit, centre, fill, reveal, pin, pan, onScreen, apply, size };
}

// Drag to pan, two fingers or Ctrl + wheel to zoom. The plain wheel stays the page's own: a notebook must scroll on.
export function gestures(canvas, seen, quiet) {
  const down = new Map();
  let moved = false;
  const local = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (down.size === 0) moved = false;
    down.set(event.pointerId, [event.clientX, event.clientY]);
  });
  const move = (event) => {
    const last = down.get(event.pointerId);
    if (!last) return;
    const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
    if (!moved && Math.hypot(dx, dy) < 4) return;
    if (!moved) { moved = true; canvas.setPointerCapture(event.pointerId); canvas.classList.add("gx-moving"); quiet(); }
    if (down.size === 2) {
      const other = [...down].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      const now = [event.clientX, event.clientY], box = canvas.getBoundingClientRect();
      seen.zoom(apart(now) / apart(last), (now[0] + other[0]) / 2 - box.left, (now[1] + other[1]) / 2 - box.top);
    } else seen.pan(dx, dy);
    down.set(event.pointerId, [event.clientX, event.clientY]);
  };
  const up = (event) => { down.delete(event.pointerId); canvas.classList.remove("gx-moving"); };
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("lostpointercapture", up);
  canvas.addEventListener("click", (event) => { if (moved) { event.stopPropagation(); event.preventDefault(); moved = false; } }, true);
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    seen.zoom(Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) * 0.008), ...local(event));
  }, { passive: false });
}
