// The session: timelines, shares, changes and markers.

import { clock, colorOf, drawTimeline, element, percent, post, setText } from "./words.js";

const SHOWN = 30; // people, changes and markers

function countsOf(one) {
  const found = Object.entries(one.counts).filter(([, count]) => count).sort((a, b) => b[1] - a[1]);
  return `${one.people} people: ${found.map(([label, count]) => `${label} ${count}`).join(", ")}`;
}

function byId(id) { return document.getElementById(id); }

export class SessionView {
  constructor() {
    this.lines = new Map();
    this.stops = 0; // how often nothing was known any more
    byId("add-marker").addEventListener("submit", (event) => { event.preventDefault(); this.mark(); });
    document.addEventListener("keydown", (event) => {
      const typing = event.target instanceof HTMLElement && event.target.closest("input, textarea, select, button");
      if (event.key.toLowerCase() !== "m" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (byId("marker-key").checked && !event.repeat) this.mark();
    });
  }

  async mark() {
    const input = byId("marker-text");
    try {
      const marker = await post("/markers", { text: input.value });
      input.value = "";
      setText(byId("marker-status"), `Marker set at ${clock(marker.at)}.`);
      await this.refresh();
    } catch (error) {
      setText(byId("marker-status"), `The marker was not set: ${error.message}`);
    }
  }

  async refresh() {
    const { stops } = this;
    const response = await fetch("/summary");
    const view = response.ok ? await response.json() : null;
    if (view && stops === this.stops) this.show(view); // otherwise it is about what was before the stop
  }

  // The run has ended, or nothing is known of it.
  stop() {
    this.stops += 1;
    setText(byId("session-length"), "");
  }

  show(view) {
    const order = Object.keys(view.shares);
    setText(byId("session-length"), `Running for ${clock(view.seconds)}.`);
    const marks = view.markers.map((one) => one.at);
    // With counts only a part has as many seconds as people were counted in it.
    const full = view.counts.length ? 0 : view.overall.part_seconds;
    drawTimeline(byId("overall"), view.overall, view.seconds, order, { full, marks });
    setText(byId("overall-end"), clock(view.seconds));
    const shares = order.map((label) => `${label} ${percent(view.shares[label])}`);
    byId("overall").setAttribute("aria-label", `Timeline over all people: ${shares.join(", ") || "no labels yet"}`);
    this.legend(view.shares);
    this.people(view.people.slice(-SHOWN).reverse(), view.seconds, order);
    this.list("counts", view.counts, (one) => `${clock(one.at)} ${one.source}: ${countsOf(one)}`);
    this.list("changes", view.changes, (one) =>
      `${clock(one.at)} ${one.source}, person ${one.id}: ${one.before || "no label"} → ${one.after || "no label"}`);
    this.list("markers", view.markers, (one) => `${clock(one.at)} ${one.text || "(no text)"}`);
  }

  legend(shares) {
    const items = Object.entries(shares).map(([label, share]) => {
      const item = element("li");
      const swatch = element("span", null, "swatch");
      swatch.style.background = colorOf(label);
      item.append(swatch, `${label} ${percent(share)}`);
      return item;
    });
    byId("shares").replaceChildren(...items);
  }

  people(people, seconds, order) {
    const box = byId("timelines");
    if (people.length) box.querySelector(".empty")?.remove();
    const names = new Set(people.map((one) => `${one.source}, person ${one.id}`));
    for (const [name, line] of this.lines) {
      if (!names.has(name)) { line.remove(); this.lines.delete(name); }
    }
    for (const one of people) {
      const name = `${one.source}, person ${one.id}`;
      if (!this.lines.has(name)) {
        const line = element("div", null, "person-line");
        line.canvas = element("canvas", null, "timeline");
        line.canvas.setAttribute("role", "img");
        line.canvas.setAttribute("aria-label", `Timeline of ${name}`);
        line.append(element("span", name), line.canvas);
        this.lines.set(name, line);
        box.append(line);
      }
      drawTimeline(this.lines.get(name).canvas, one.timeline, seconds, order);
    }
  }

  list(id, values, text) {
    const newest = values.slice(-SHOWN).reverse().map((value) => element("li", text(value)));
    byId(id).replaceChildren(...newest);
  }
}
