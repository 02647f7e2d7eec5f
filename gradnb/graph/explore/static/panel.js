// Beside the graph: what was chosen, its line in the user's source, and what was found.

import { el } from "./dom.js";
import { facts, kindWord, placeText } from "./model.js";

// `goTo(node)` chooses a node; the panel itself only shows.
export function panel(picture, goTo) {
  const head = el("section", { class: "gx-name", "aria-live": "polite" });
  const source = el("section", { class: "gx-place" });
  const known = el("section", { class: "gx-known" });
  const told = el("section", { class: "gx-findings" });
  const root = el("aside", { class: "gx-panel", "aria-label": "Facts and source of what is chosen" }, head, source, known, told);

  function show(graph, id) {
    if (id < 0) {
      head.replaceChildren(el("div", { class: "gx-kind" }, "Choose a node to see its facts and its line."));
      source.hidden = known.hidden = true;
    } else {
      const box = graph.boxes[id];
      const list = facts(picture, graph, id).map(([name, text]) => [el("dt", null, name), el("dd", null, text)]);
      head.replaceChildren(el("h4", null, box.label), el("div", { class: "gx-kind" }, [kindWord(graph, box), box.leaf ? "" : box.detail].filter(Boolean).join(" · ")));
      known.hidden = false;
      known.replaceChildren(el("dl", { class: "gx-facts" }, list));
      showSource(graph, id);
    }
    showFindings(graph, id);
  }

  function showSource(graph, id, other = -1) {
    const inside = graph.inside[id].map((i) => graph.nodes[i]);
    const first = inside.find((node) => node.mark && node.at >= 0) || inside.find((node) => node.at >= 0);
    source.hidden = !first;
    if (!first) return;
    const at = other >= 0 ? other : first.at;
    const place = picture.places[at];
    const lost = other < 0 && Boolean(first.mark) && first.mark.severity !== "info";
    const also = new Set(inside.filter((node) => node.at >= 0 && picture.places[node.at].source === place.source).map((node) => picture.places[node.at].line));
    const code = codeOf(graph, place, also, lost);
    const where = el("div", { class: "gx-where" }, placeText(picture, at).where, place.function && place.function !== "<module>" ? el("span", null, `in ${place.function}`) : null);
    const from = graph.boxes[id].leaf && first.from.length ? callers(graph, id, first, at) : null;
    source.replaceChildren(where, code, from || "");
    // Only the panel scrolls: the notebook must stay where it is.
    const hot = code.querySelector("[aria-current]");
    if (!hot) return;
    code.scrollTop = hot.offsetTop - code.clientHeight / 2 + 10;
    const mark = hot.querySelector("mark"), over = mark.offsetLeft + mark.offsetWidth + 14 - code.clientWidth;
    if (over > 0 && mark.offsetLeft > 0.45 * code.clientWidth) code.scrollLeft = Math.min(over, mark.offsetLeft - 56); // as much of it as there is room for, its beginning in any case
  }

  function codeOf(graph, place, also, lost) {
    const nodesOf = new Map();
    for (const node of graph.nodes) if (node.at >= 0 && picture.places[node.at].source === place.source) {
      const line = picture.places[node.at].line;
      if (!nodesOf.has(line)) nodesOf.set(line, []);
      nodesOf.get(line).push(node.id);
    }
    const { first, lines } = picture.sources[place.source];
    const rows = lines.map((text, i) => {
      const number = first + i, nodes = nodesOf.get(number);
      const gutter = nodes
        ? el("button", { type: "button", class: "gx-number", tabindex: -1, title: `${nodes.length} node${nodes.length > 1 ? "s" : ""} of this line`, onclick: () => goTo(nodes) }, number)
        : el("span", { class: "gx-number" }, number);
      if (number !== place.line) return el("li", { class: also.has(number) ? "gx-here" : null }, gutter, text || " ");
      const letters = [...text]; // Python counts characters, not UTF-16 units
      const cut = [letters.slice(0, place.start), letters.slice(place.start, place.end), letters.slice(place.end)].map((part) => part.join(""));
      return el("li", { class: lost ? "gx-lost" : "gx-here", "aria-current": "true" }, gutter, el("span", null, cut[0], el("mark", null, cut[1]), cut[2]));
    });
    return el("div", { class: "gx-source", tabindex: 0, role: "region", "aria-label": `Source, line ${place.line} marked` }, el("ol", null, rows));
  }

  function callers(graph, id, node, at) {
    const entry = (other, word) => {
      const { where, code } = placeText(picture, other);
      return el("button", { type: "button", title: code, "aria-pressed": String(other === at), onclick: () => showSource(graph, id, other === node.at ? -1 : other) }, `${word} ${where}: ${code}`);
    };
    return el("div", { class: "gx-from" }, at !== node.at && entry(node.at, "back to"), node.from.filter((other) => other >= 0 && other !== at).map((other) => entry(other, "called from")));
  }

  function showFindings(graph, id) {
    const marked = graph.nodes.filter((node) => node.mark && node.mark.finding >= 0);
    const here = id >= 0 ? graph.inside[id].map((i) => graph.nodes[i].mark).find((mark) => mark && mark.finding >= 0) : null;
    const shown = [...new Set(marked.map((node) => node.mark.finding))].sort((a, b) => a - b);
    told.hidden = !shown.length;
    (here ? head : known).after(told); // what is wrong with the chosen node comes first
    told.replaceChildren(...shown.slice(0, 12).map((number) => {
      const finding = picture.findings[number];
      const target = marked.filter((node) => node.mark.finding === number).sort((a, b) => b.mark.root - a.mark.root)[0];
      const place = placeText(picture, finding.at);
      const title = el("button", { type: "button", class: `gx-finding gx-${finding.severity}`, onclick: () => goTo([target.id]) },
        el("b", null, prose(finding.title)), el("span", { class: "gx-kind" }, `${finding.severity}: ${finding.cause}${place ? `, ${place.where}` : ""}`));
      const fix = here && here.finding === number && finding.fix;
      return el("div", null, title, fix && el("p", { class: "gx-fix" }, el("strong", null, "Fix: "), prose(finding.fix)));
    }), shown.length > 12 ? el("div", { class: "gx-kind" }, `and ${shown.length - 12} more findings, see the report`) : "");
  }

  // What stands in backticks is code.
  const prose = (text) => text.split("`").map((part, i) => (i % 2 ? el("code", null, part) : part));
  return { root, show };
}

