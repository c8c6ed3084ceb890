// Words and small helpers of the page. Texts of others are only ever set as text, never as HTML.

const WHY = {
  "warming": "warming up", "small": "the face is too small", "blurred": "the face is blurred",
  "cut": "the face is at the edge of the image", "turned away": "the face is turned away",
  "occluded": "the face is covered", "uncertain": "no label is likely enough", "stale": "not seen for a moment",
};

// States in which the images of a camera are analysed; a file has none.
export const WATCHING = ["live", "degraded", null];

let colors = {};

export function setColors(given) { colors = given || colors; }

export function colorOf(label) { return colors[label] || "#808c96"; }

export function percent(share) { return `${Math.round(100 * share)} %`; }

export function clock(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

export function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function setText(node, text) { if (node.textContent !== text) node.textContent = text; }

export function labelOf(person) {
  if (person.state === "lost") return "not detected"; // may still be in view, from behind
  if (person.top) return `${person.top} ${percent(person.emotions[person.top] ?? 0)}`;
  return person.why === "warming" || !person.why ? "warming up" : `not sure: ${WHY[person.why] || person.why}`;
}

// What fits into an image.
export function captionIn(person) {
  const name = person.id === undefined || person.id === null ? "" : `#${person.id} `;
  if (person.state === "lost") return `${name}not detected`;
  if (person.top) return `${name}${labelOf(person)}`;
  return `${name}${person.why === "warming" || !person.why ? "warming up" : "not sure"}`;
}

export function nameOf(person) { return person.id === undefined || person.id === null ? "person" : `person ${person.id}`; }

export function qualityOf(person) {
  const quality = person.quality;
  if (!quality) return "quality: not measured yet";
  const parts = [`head ${Math.round(quality.head_px)} px`];
  if (quality.sharpness !== null) parts.push(`sharpness ${quality.sharpness.toFixed(2)}`);
  if (quality.frontal !== null) parts.push(`frontal ${quality.frontal.toFixed(2)}`);
  parts.push(`inside the image ${percent(quality.inside)}`);
  return parts.join(", ");
}

// Draw parts of time as columns, from the beginning to `seconds`. A timeline is {part_seconds, first, parts}, its
// parts are {label: seconds}; "" is time without a label. `full`: seconds that fill the height; 0: what a part has.
export function drawTimeline(canvas, timeline, seconds, order, { full = 0, marks = [] } = {}) {
  const scale = window.devicePixelRatio || 1;
  const width = Math.max(Math.round(canvas.clientWidth * scale), 1);
  const height = Math.max(Math.round(canvas.clientHeight * scale), 1);
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const { part_seconds: part, first, parts } = timeline;
  const step = width * part / Math.max(seconds, (first + parts.length) * part, part);
  parts.forEach((labels, i) => {
    const total = Math.max(full, Object.values(labels).reduce((sum, value) => sum + value, 0)) || 1;
    const left = Math.floor((first + i) * step), right = Math.max(Math.floor((first + i + 1) * step), left + 1);
    let bottom = height;
    for (const label of order) {
      const size = ((labels[label] || 0) / total) * height;
      if (!size || !label) continue;
      context.fillStyle = colorOf(label);
      context.fillRect(left, bottom - size, right - left, size);
      bottom -= size;
    }
  });
  context.fillStyle = getComputedStyle(canvas).color;
  for (const at of marks) context.fillRect(Math.round(at * step / part) - scale, 0, 2 * scale, height);
}

export async function post(path, body, method = "POST") {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error || `the server answered ${response.status}`);
  return answer;
}
