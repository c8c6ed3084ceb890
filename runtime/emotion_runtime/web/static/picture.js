// The live image of one camera: a JPEG with the boxes that belong to this very frame.

import { captionIn, colorOf, element, labelOf, nameOf, setText } from "./words.js";

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
    for (const person of header.event.persons) this.box(context, person, scale);
    this.describe(header.event.persons);
    canvas.dataset.frame = header.event.frame;
  }

  box(context, person, scale) {
    const [x1, y1, x2, y2] = person.box.map((value) => value * scale);
    const shown = this.canvas.clientWidth || this.canvas.width;
    const size = Math.round(Math.min(Math.max(shown / 36, 10), 15) * this.canvas.width / shown);
    const color = person.top ? colorOf(person.top) : "#808c96";
    context.globalAlpha = person.state === "lost" ? 0.5 : 1;
    context.lineWidth = Math.max(2, size / 7);
    context.strokeStyle = color;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const text = captionIn(person);
    context.font = `600 ${size}px system-ui, sans-serif`;
    const width = context.measureText(text).width + size;
    const left = Math.max(0, Math.min(x1, this.canvas.width - width));
    const top = y1 > 1.6 * size ? y1 - 1.6 * size : Math.min(y2, this.canvas.height - 1.6 * size);
    context.fillStyle = "rgba(18, 22, 28, 0.82)";
    context.fillRect(left, top, width, 1.5 * size);
    context.fillStyle = color;
    context.fillRect(left, top, size / 3, 1.5 * size);
    context.fillStyle = "#f4f2f0";
    context.textBaseline = "middle";
    context.fillText(text, left + 0.6 * size, top + 0.78 * size);
    context.globalAlpha = 1;
  }

  // Renew the description for screen readers, not more often than every 3 seconds.
  describe(persons) {
    const now = performance.now();
    if (now - this.described < 3000) return;
    this.described = now;
    const seen = persons.filter((person) => person.state !== "lost");
    const text = seen.map((person) => `${nameOf(person)}, ${labelOf(person)}`).join("; ") || "nobody";
    this.canvas.setAttribute("aria-label", `Live image of ${this.name}: ${text}`);
  }

  // Show how the camera does; an image that is not of now is dimmed.
  note(text, status) {
    setText(this.caption, text);
    this.figure.classList.toggle("stale", ["connecting", "lost", "frozen", "paused"].includes(status));
  }

  remove() { this.figure.remove(); }
}
