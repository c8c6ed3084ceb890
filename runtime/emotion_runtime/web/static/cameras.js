// The table of cameras, with buttons that pause, resume and remove them.

import { element, post, setText } from "./words.js";

function number(value, unit = "") { return value === null || value === undefined ? "–" : `${value}${unit}`; }

function latency(camera) {
  if (camera.latency_p50_ms === null) return "–";
  return `${Math.round(camera.latency_p50_ms)} / ${Math.round(camera.latency_p95_ms)} ms`;
}

const COLUMNS = ["Status", "Frames per second", "Dropped", "Lost", "Latency p50 / p95", "People"];

// On a narrow screen a row becomes a block, in which each cell says what it is.
function cell(column) {
  const made = element("td");
  made.setAttribute("role", "cell");
  made.dataset.column = column;
  return made;
}

export function captionOf(camera) {
  const parts = [camera.name, camera.status || "file", `${number(camera.fps)} fps`];
  if (camera.latency_p95_ms !== null) parts.push(`p95 ${Math.round(camera.latency_p95_ms)} ms`);
  return parts.join(" · ");
}

export class CameraTable {
  constructor(body, form, problem) {
    this.body = body;
    this.form = form;
    this.problem = problem;
    this.rows = new Map();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const input = form.elements.uri;
      this.act("/cameras", { uri: input.value }).then((done) => { if (done) input.value = ""; });
    });
  }

  async act(path, body, method) {
    setText(this.problem, "");
    try {
      await post(path, body, method);
      return true;
    } catch (error) {
      setText(this.problem, error.message);
      return false;
    }
  }

  show(cameras, canAdd) {
    this.form.hidden = !canAdd;
    const names = new Set(cameras.map((camera) => camera.name));
    for (const [name, row] of this.rows) {
      if (!names.has(name)) { row.remove(); this.rows.delete(name); }
    }
    for (const camera of cameras) {
      if (!this.rows.has(camera.name)) this.rows.set(camera.name, this.row(camera.name));
      this.fill(this.rows.get(camera.name), camera, canAdd);
    }
  }

  row(name) {
    const row = element("tr");
    row.setAttribute("role", "row");
    const head = element("th", name);
    head.scope = "row";
    head.setAttribute("role", "rowheader");
    row.cells_ = COLUMNS.map((column) => cell(column));
    row.cells_[0].className = "reason";
    const actions = cell("");
    row.pause = element("button", "Pause");
    row.pause.type = "button";
    row.pause.addEventListener("click", () => this.act(`/cameras/${row.paused ? "resume" : "pause"}`, { name }));
    row.drop = element("button", "Remove");
    row.drop.type = "button";
    row.drop.setAttribute("aria-label", `Remove ${name}`);
    row.drop.addEventListener("click", () => {
      this.act(`/cameras?name=${encodeURIComponent(name)}`, undefined, "DELETE");
    });
    actions.append(row.pause, " ", row.drop);
    row.append(head, ...row.cells_, actions);
    this.body.append(row);
    return row;
  }

  fill(row, camera, canAdd) {
    const status = (camera.status || "file") + (camera.reason ? `: ${camera.reason}` : "");
    const values = [status, number(camera.fps), number(camera.dropped), number(camera.lost), latency(camera),
      number(camera.people)];
    values.forEach((value, i) => setText(row.cells_[i], String(value)));
    row.paused = camera.status === "paused";
    setText(row.pause, row.paused ? "Resume" : "Pause");
    row.pause.setAttribute("aria-label", `${row.paused ? "Resume" : "Pause"} ${camera.name}`);
    row.pause.hidden = camera.status === "ended";
    row.drop.hidden = !canAdd;
  }
}
