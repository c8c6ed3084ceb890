// A card for every person who is detected.

import { colorOf, drawTimeline, element, labelOf, nameOf, percent, qualityOf, setText } from "./words.js";

const UPDATE = 250; // milliseconds between two updates of a card
const PART = 1000; // milliseconds of one part of the timeline
const PARTS = 180;
const GONE = 4000; // milliseconds after which the card of somebody who is not seen goes

class Card {
  constructor(title, parent) {
    this.box = element("article", null, "card");
    this.top = element("p", "", "top");
    this.bars = element("ul", null, "bars");
    this.quality = element("p", "", "quality");
    this.timeline = element("canvas", null, "timeline");
    this.timeline.setAttribute("role", "img");
    this.timeline.setAttribute("aria-label", `Labels of ${title} over the last ${PARTS / 60} minutes`);
    const axis = element("p", null, "axis");
    axis.setAttribute("aria-hidden", "true");
    axis.append(element("span", `${PARTS / 60} min ago`), element("span", "now"));
    this.box.append(element("h3", title), this.top, this.bars, this.timeline, axis, this.quality);
    parent.append(this.box);
    this.title = title;
    this.rows = new Map();
    this.parts = [];
    this.updated = 0;
    this.seen = 0;
    this.spoken = "";
  }

  update(person, now) {
    this.seen = now;
    this.remember(person, now);
    if (now - this.updated < UPDATE) return;
    this.updated = now;
    setText(this.top, labelOf(person));
    this.box.style.borderTopColor = person.top ? colorOf(person.top) : "";
    for (const [label, value] of Object.entries(person.emotions)) this.bar(label, value);
    setText(this.quality, qualityOf(person));
    const parts = this.parts.map((part) => part.labels);
    const timeline = { part_seconds: 1, first: PARTS - parts.length, parts };
    drawTimeline(this.timeline, timeline, PARTS, Object.keys(person.emotions));
  }

  bar(label, value) {
    let row = this.rows.get(label);
    if (!row) {
      row = element("li");
      const track = element("span", null, "track");
      row.fill = element("span", null, "fill");
      row.fill.style.display = "block";
      row.fill.style.background = colorOf(label);
      row.share = element("span", "", "value");
      track.append(row.fill);
      track.setAttribute("aria-hidden", "true");
      row.append(element("span", label), track, row.share);
      this.bars.append(row);
      this.rows.set(label, row);
    }
    row.fill.style.width = `${100 * Math.min(Math.max(value, 0), 1)}%`;
    setText(row.share, percent(value));
  }

  remember(person, now) {
    const start = Math.floor(now / PART);
    let part = this.parts[this.parts.length - 1];
    while (part && part.start < start - 1) {
      part = { start: part.start + 1, labels: {} };
      this.parts.push(part);
    }
    if (!part || part.start !== start) this.parts.push(part = { start, labels: {} });
    const label = person.state === "lost" ? "" : person.top || "";
    part.labels[label] = (part.labels[label] || 0) + 1;
    while (this.parts.length > PARTS) this.parts.shift();
  }
}

export class People {
  constructor(parent, spoken) {
    this.parent = parent;
    this.spoken = spoken;
    this.cards = new Map();
    this.said = 0;
  }

  show(event) {
    const now = performance.now();
    event.persons.forEach((person, index) => {
      if (person.state === "new" || person.state === "lost" && !this.cards.has(this.key(event, person, index))) return;
      const key = this.key(event, person, index);
      if (!this.cards.has(key)) {
        this.parent.querySelector(".empty")?.remove();
        this.cards.set(key, new Card(`${event.source}, ${nameOf(person)}`, this.parent));
      }
      const card = this.cards.get(key);
      card.update(person, now);
      this.speak(card, person, now);
    });
    this.clean();
  }

  key(event, person, index) { return `${event.source}\n${person.id ?? `#${index}`}`; }

  // Tell screen readers about changes of labels, one every 4 seconds at most.
  speak(card, person, now) {
    const label = person.top || "";
    if (label === card.spoken || now - this.said < 4000) return;
    card.spoken = label;
    this.said = now;
    setText(this.spoken, `${card.title}: ${labelOf(person)}`);
  }

  clear() {
    for (const card of this.cards.values()) card.box.remove();
    this.cards.clear();
    setText(this.spoken, "");
  }

  // Remove who is gone. `known`: whether images are analysed, so that no card means no detection: somebody
  // who is seen from behind may still be in view.
  clean(known = true) {
    const now = performance.now();
    for (const [key, card] of this.cards) {
      if (now - card.seen > GONE) {
        card.box.remove();
        this.cards.delete(key);
      }
    }
    if (this.cards.size) return;
    if (!this.parent.querySelector(".empty")) this.parent.append(element("p", "", "empty"));
    setText(this.parent.querySelector(".empty"), known ? "Nobody is detected." : "Nothing is known about who is in view.");
  }
}
