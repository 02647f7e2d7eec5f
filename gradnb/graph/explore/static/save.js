// Taking the picture away: as an SVG that stands alone, or as one page with the explorer in it.

import { el, button } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

// The drawn picture with the colours that it has on the screen.
export function standing(canvas, layer, scene, title) {
  const style = getComputedStyle(canvas), copy = layer.cloneNode(true);
  const wide = Math.ceil(scene.width + 32), high = Math.ceil(scene.height + 32);
  copy.setAttribute("transform", "translate(16 16)");
  copy.querySelectorAll(".gx-ring").forEach((ring) => ring.remove());
  copy.querySelectorAll("[data-box]").forEach((box) => {
    const name = document.createElementNS(SVG, "title");
    name.textContent = box.getAttribute("aria-label");
    box.prepend(name);
  });
  copy.querySelectorAll("*").forEach((element) => {
    for (const { name } of [...element.attributes]) if (/^(class|tabindex|role|aria-|data-|style)/.test(name)) element.removeAttribute(name);
  });
  copy.removeAttribute("class");
  const root = document.createElementNS(SVG, "svg"), plate = document.createElementNS(SVG, "rect"), name = document.createElementNS(SVG, "title");
  const set = (element, values) => Object.entries(values).forEach(([key, value]) => element.setAttribute(key, value));
  set(root, { viewBox: `0 0 ${wide} ${high}`, width: wide, height: high, color: style.color, fill: "currentColor", "font-family": "system-ui, sans-serif" });
  set(plate, { width: wide, height: high, fill: backOf(canvas) });
  name.textContent = title;
  root.append(name, plate, copy);
  return new XMLSerializer().serializeToString(root);
}

function backOf(element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (colour && colour !== "transparent" && !/^rgba\(.*, 0\)$/.test(colour)) return colour;
  }
  return "#ffffff";
}

// To the clipboard; where the front end forbids that, into a field whose text is selected.
export async function copy(text, root, say) {
  try {
    await navigator.clipboard.writeText(text);
    say("The SVG is in the clipboard.");
    return;
  } catch { /* no permission, or no secure context: the field below serves */ }
  const field = el("textarea", { readonly: true, "aria-label": "The picture as SVG" });
  field.value = text;
  const close = () => box.remove();
  const box = el("div", { class: "gx-copy", role: "dialog", "aria-label": "Copy the SVG", onkeydown: (event) => event.key === "Escape" && close() },
    el("p", { style: "margin:0 0 6px" }, "The browser does not let gradnb write to the clipboard. The text is selected: press Ctrl + C."), field, button("close", "Close", close));
  root.append(box);
  field.focus();
  field.select();
}

// One page that needs nothing else; the same parts as page.py puts together.
export function pageText({ title, css, source, data, still }) {
  const json = JSON.stringify(data).replace(/</g, "\\u003c");
  const plain = title.replace(/[<>&]/g, "");
  return `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">`
    + `<title>${plain}</title><style>${css}</style></head>\n<body class="gx-page"><main><div id="gradnb"><noscript>${still}</noscript></div></main>\n`
    + `<script type="application/json" id="gradnb-data">${json}<\/script>\n<script>const gradnb = ${source};\ngradnb().page();<\/script></body></html>\n`;
}

export function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/html" }));
  const link = el("a", { href: url, download: name, style: "display:none" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
