// The live image of one camera: a JPEG with the boxes that belong to this very frame.

import { WATCHING, captionIn, colorOf, element, labelOf, nameOf, setText } from "./words.js";

export class Picture {
  constructor(name, parent) {
    this.figure = element("figure");
    this.canvas = element("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `Live image of ${name}`);
    this.caption = element("figcaption", name);
    this.figure.append(this.canvas, this.caption);
    parent.append(this.figure);
    this.name = name;
    this.busy = false;
    this.next = null;
    this.described = 0;
  }

  // Show a frame; while one is being decoded only the newest of the others waits.
  show(header, jpeg) {
    this.next = [header, jpeg];
    if (!this.busy) this.drain();
  }

  async drain() {
    this.busy = true;
    try {
      while (this.next) {
        const [header, jpeg] = this.next;
        this.next = null;
        const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
        this.paint(header, bitmap);
        bitmap.close();
      }
    } catch (error) {
      setText(this.caption, `${this.name}: an image could not be decoded`);
    } finally {
      this.busy = false;
    }
  }

  paint(header, bitmap) {
    const canvas = this.canvas;
    // A small image is enlarged here, so that texts are as sharp as the screen.
    const shown = (canvas.clientWidth || bitmap.width) * (window.devicePixelRatio || 1);
    const width = Math.round(Math.max(bitmap.width, Math.min(shown, 1920)));
    const height = Math.round(width * bitmap.height / bitmap.width);
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0, width, height);
    const scale = width / header.width;
    const people = header.event.persons.map((person) => [person, person.box.map((value) => value * scale)]);
    for (const [person, box] of people) this.outline(context, person, box);
    const placed = [];  // the labels, none of which hides another or, where there is room, a head
    for (const [person, box] of people) {
      const others = people.map((each) => each[1]).filter((each) => each !== box);
      placed.push(this.label(context, person, box, placed, others));
    }
    this.describe(header.event.persons);
    canvas.dataset.frame = header.event.frame;
  }

  // The height of letters, in pixels of the canvas.
  letters() {
    const shown = this.canvas.clientWidth || this.canvas.width;
    return Math.round(Math.min(Math.max(shown / 36, 10), 15) * this.canvas.width / shown);
  }

  outline(context, person, [x1, y1, x2, y2]) {
    context.globalAlpha = person.state === "lost" ? 0.5 : 1;
    context.lineWidth = Math.max(2, this.letters() / 7);
    context.strokeStyle = inkOf(person);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    context.globalAlpha = 1;
  }

  label(context, person, box, placed, others) {
    const size = this.letters();
    const text = captionIn(person);
    context.globalAlpha = person.state === "lost" ? 0.5 : 1;
    context.font = `600 ${size}px system-ui, sans-serif`;
    const [width, height] = [context.measureText(text).width + size, 1.5 * size];
    const place = placeLabel(box, [width, height], [this.canvas.width, this.canvas.height], placed, others);
    const [left, top] = place;
    context.fillStyle = "rgba(18, 22, 28, 0.82)";
    context.fillRect(left, top, width, height);
    context.fillStyle = inkOf(person);
    context.fillRect(left, top, size / 3, height);
    context.fillStyle = "#f4f2f0";
    context.textBaseline = "middle";
    context.fillText(text, left + 0.6 * size, top + 0.78 * size);
    context.globalAlpha = 1;
    return place;
  }

  // Renew the description for screen readers, not more often than every 3 seconds.
  describe(persons) {
    const now = performance.now();
    if (now - this.described < 3000) return;
    this.described = now;
    const seen = persons.filter((person) => person.state !== "lost");
    const text = seen.map((person) => `${nameOf(person)}, ${labelOf(person)}`).join("; ") || "nobody detected";
    this.canvas.setAttribute("aria-label", `Live image of ${this.name}: ${text}`);
  }

  // Show how the camera does; an image that is not of now is dimmed.
  note(text, status) {
    setText(this.caption, text);
    this.figure.classList.toggle("stale", !WATCHING.includes(status));
  }

  remove() { this.figure.remove(); }
}

// Return where a label goes, [left, top, right, bottom]: above its box, below it or beside it, within the image. The
// first of these places that hides no other label and no other box; else the one that hides the least of them.
export function placeLabel([x1, y1, x2, y2], [width, height], [imageWidth, imageHeight], labels, boxes) {
  const gap = height / 15;
  const spots = [
    [x1, y1 - height - gap], [x1, y2 + gap], [x2 - width, y1 - height - gap], [x2 - width, y2 + gap],
    [x1, y1 - 2 * (height + gap)], [x1, y2 + height + 2 * gap], [x2 + gap, y1], [x1 - width - gap, y1],
  ];
  let best = null;
  let least = Infinity;
  for (const [x, y] of spots) {
    const left = Math.max(0, Math.min(x, imageWidth - width));
    const top = Math.max(0, Math.min(y, imageHeight - height));
    const spot = [left, top, left + width, top + height];
    const hidden = (others) => others.reduce((sum, other) => sum + overlap(spot, other), 0);
    const cost = 4 * hidden(labels) + hidden(boxes) + hidden([[x1, y1, x2, y2]]);
    if (cost < least) [best, least] = [spot, cost];
  }
  return best;
}

function overlap(a, b) {
  const side = (low, high) => Math.max(0, Math.min(a[high], b[high]) - Math.max(a[low], b[low]));
  return side(0, 2) * side(1, 3);
}

function inkOf(person) { return person.top ? colorOf(person.top) : "#808c96"; }
