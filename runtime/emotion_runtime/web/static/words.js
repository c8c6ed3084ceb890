// Words and small helpers of the page. Texts of others are only ever set as text, never as HTML.

const WHY = {
  "warming": "warming up", "small": "the face is too small", "blurred": "the face is blurred",
  "cut": "the face is at the edge of the image", "turned away": "the face is turned away",
  "occluded": "the face is covered", "uncertain": "no label is likely enough", "stale": "not seen for a moment",
};

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
  if (person.state === "lost") return "not in view";
  if (person.top) return `${person.top} ${percent(person.emotions[person.top] ?? 0)}`;
  return person.why === "warming" || !person.why ? "warming up" : `not sure: ${WHY[person.why] || person.why}`;
}

// What fits into an image.
export function captionIn(person) {
  const name = person.id === undefined || person.id === null ? "" : `#${person.id} `;
  if (person.state === "lost") return `${name}not in view`;
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

// Draw parts of time as columns. `parts` are {label: seconds}; "" is time without a label.
export function drawTimeline(canvas, parts, full, order) {
  const width = Math.max(canvas.clientWidth, 1), height = Math.max(canvas.clientHeight, 1);
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  const step = canvas.width / Math.max(parts.length, 1);
  parts.forEach((part, i) => {
    const total = Math.max(full, Object.values(part).reduce((sum, value) => sum + value, 0)) || 1;
    let bottom = canvas.height;
    for (const label of order) {
      const size = ((part[label] || 0) / total) * canvas.height;
      if (!size || !label) continue;
      context.fillStyle = colorOf(label);
      context.fillRect(Math.floor(i * step), bottom - size, Math.ceil(step), size);
      bottom -= size;
    }
  });
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
