// Gradient norms as colours: a logarithmic scale that reads in grey and for colour-blind eyes (cividis).

const STOPS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function blend(part) {
  const at = Math.min(1, Math.max(0, part)) * (STOPS.length - 1), low = Math.min(STOPS.length - 2, Math.floor(at));
  const [a, b] = [rgb(STOPS[low]), rgb(STOPS[low + 1])];
  return a.map((value, i) => Math.round(value + (b[i] - value) * (at - low)));
}

// One scale for all steps, so that colours can be compared; null where no norm is known.
export function scaleOf(picture) {
  let low = Infinity, high = -Infinity;
  for (let step = 0; step < picture.steps.length; step++) {
    for (const { norm } of picture.at(step).nodes) if (norm > 0 && Number.isFinite(norm)) {
      low = Math.min(low, norm);
      high = Math.max(high, norm);
    }
  }
  if (low > high) return null;
  const start = Math.floor(Math.log10(low)), end = Math.max(start + 1, Math.ceil(Math.log10(high)));
  return {
    low: start, high: end,
    // {fill, text} of a norm; null where there is nothing to colour
    of(norm) {
      if (norm === null || norm === undefined) return null;
      if (!Number.isFinite(norm)) return { fill: "#D55E00", text: "#fff" };
      const [r, g, b] = norm === 0 ? [0, 0, 0] : blend((Math.log10(norm) - start) / (end - start));
      return { fill: `rgb(${r},${g},${b})`, text: 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#000" : "#fff" };
    },
    gradient: `linear-gradient(90deg, ${STOPS.join(", ")})`,
  };
}

export const power = (exponent) => (exponent >= -2 && exponent <= 3 ? String(Number((10 ** exponent).toPrecision(1))) : `1e${exponent}`);
