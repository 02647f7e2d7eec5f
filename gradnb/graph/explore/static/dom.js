// Elements. Text always goes in as text: nothing of the user's is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

export const el = (name, attributes, ...children) => build(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) => build(document.createElementNS(SVG, name), attributes, children);

const ICONS = {
  search: "M10.5 10.5 14 14M11.5 7a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0",
  plus: "M8 3v10M3 8h10", minus: "M3 8h10",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  save: "M8 2.5v8M4.5 7.5 8 11l3.5-3.5M2.5 13.5h11",
  back: "M10 3 5 8l5 5", next: "M6 3l5 5-5 5", play: "M5 3l8 5-8 5z", pause: "M5 3v10M11 3v10",
  colour: "M8 2.5s4.5 4.6 4.5 7.2a4.5 4.5 0 0 1-9 0C3.5 7.1 8 2.5 8 2.5z", close: "M4 4l8 8M12 4l-8 8",
};

export function icon(name) {
  const line = { d: ICONS[name], fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-linecap": "round", "stroke-linejoin": "round" };
  return svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", line));
}

export function button(name, told, press, label) {
  const title = label === told ? null : told;
  return el("button", { type: "button", class: "gx-button", title, "aria-label": label ? null : told, onclick: press }, name && icon(name), label && el("span", { class: "gx-label" }, label));
}
