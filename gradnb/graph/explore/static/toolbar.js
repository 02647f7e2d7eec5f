// The line of controls above the graph. It holds no state of its own: `act` does, and `update` shows it.

import { el, button, icon } from "./dom.js";
import { FILTERS } from "./model.js";

export function toolbar(picture, act, { hasNorms }) {
  const hits = el("span", { class: "gx-hits", "aria-live": "polite" });
  const field = el("input", { type: "search", placeholder: "Find a name", "aria-label": "Find a variable, parameter, module or operation; Enter goes to the next hit", autocomplete: "off", spellcheck: "false" });
  field.addEventListener("input", () => act.find(field.value));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); act.next(event.shiftKey ? -1 : 1); }
    if (event.key === "Escape") { field.value = ""; act.find(""); act.toGraph(); }
  });
  const chips = FILTERS.map((filter) => {
    const count = el("b");
    const chip = el("button", { type: "button", class: "gx-chip", "data-filter": filter.name, "aria-pressed": "false", onclick: () => act.filter(filter.name) }, filter.label, count);
    return { filter, chip, count };
  });
  const colour = button("colour", "Colour by gradient norm (logarithmic)", () => act.colour(), "Norms");
  colour.classList.add("gx-colour");
  colour.setAttribute("aria-pressed", "false");
  colour.disabled = !hasNorms;
  const parts = [
    el("div", { class: "gx-group gx-search" }, icon("search"), field, hits),
    el("div", { class: "gx-group", role: "group", "aria-label": "Show only" }, chips.map(({ chip }) => chip)),
    el("div", { class: "gx-group" }, colour),
  ];
  let slider = null, named = null, play = null;
  if (picture.steps.length > 1) {
    slider = el("input", { type: "range", min: 0, max: picture.steps.length - 1, step: 1, "aria-label": "Recorded step", oninput: () => act.step(Number(slider.value)) });
    named = el("span", { "aria-live": "polite" });
    play = button("play", "Play the steps", () => act.play());
    play.classList.add("gx-play");
    parts.push(el("div", { class: "gx-group gx-step", role: "group", "aria-label": "Steps" }, play, slider, named));
  }
  parts.push(el("div", { class: "gx-group gx-push" }, button("copy", "Copy the picture as SVG", () => act.copy(), "Copy SVG"), button("save", "Save one HTML page with this explorer", () => act.save(), "Save HTML")));
  const root = el("div", { class: "gx-bar", role: "toolbar", "aria-label": "Explorer" }, parts);

  function update({ graph, step, filter, query, found, hit, colours, playing }) {
    for (const { filter: { name, fits, told }, chip, count } of chips) {
      const many = graph.nodes.filter(fits).length;
      count.textContent = many.toLocaleString("en");
      chip.setAttribute("aria-pressed", String(filter === name));
      chip.disabled = !many && filter !== name;
      chip.title = `Show only ${told}: ${many} of ${graph.nodes.length} nodes`;
    }
    hits.textContent = !query.trim() ? "" : found.length ? `${hit < 0 ? "" : `${hit + 1} / `}${found.length}` : "no hit";
    colour.setAttribute("aria-pressed", String(colours));
    if (slider) {
      slider.value = step;
      slider.setAttribute("aria-valuetext", graph.title);
      named.textContent = `${graph.title || `step ${step + 1}`} of ${picture.steps.length}`;
      play.replaceChildren(icon(playing ? "pause" : "play"));
      play.setAttribute("aria-label", playing ? "Stop" : "Play the steps");
    }
  }
  return { root, update, field };
}
