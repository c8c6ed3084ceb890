// The page: one WebSocket for all images, and the session every few seconds.

import { CameraTable, captionOf } from "./cameras.js";
import { People } from "./people.js";
import { Picture } from "./picture.js";
import { SessionView } from "./session.js";
import { element, setColors, setText } from "./words.js";

const SESSION = 3000; // milliseconds between two looks at the session
const live = document.getElementById("live");
const connection = document.getElementById("connection");
const people = new People(document.getElementById("cards"), document.getElementById("spoken"));
const session = new SessionView();
const table = new CameraTable(document.getElementById("cameras"), document.getElementById("add-camera"),
  document.getElementById("camera-problem"));
const pictures = new Map();
const decoder = new TextDecoder();
let socket = null;
let wait = 500;

function pictureOf(name) {
  if (!pictures.has(name)) {
    live.querySelector(".empty")?.remove();
    pictures.set(name, new Picture(name, live));
  }
  return pictures.get(name);
}

function showImage(data) {
  const length = new DataView(data).getUint32(0);
  const header = JSON.parse(decoder.decode(new Uint8Array(data, 4, length)));
  pictureOf(header.event.source).show(header, new Uint8Array(data, 4 + length));
  people.show(header.event);
}

// What is not published in this run is not on the page.
function showMode(state) {
  const empty = live.querySelector(".empty");
  if (empty && !state.images) {
    setText(empty, "No images are served: only counts over several people are published (--aggregate). With --blur there are images.");
  }
  for (const part of document.querySelectorAll("[data-only]")) {
    const shown = { single: state.least === null, ids: state.least === null && state.ids, counts: state.least !== null };
    part.hidden = !shown[part.dataset.only];
  }
}

function showState(state) {
  setColors(state.colors);
  showMode(state);
  table.show(state.cameras, state.can_add);
  const names = new Set(state.cameras.map((camera) => camera.name));
  for (const [name, picture] of pictures) {
    if (!names.has(name)) { picture.remove(); pictures.delete(name); }
  }
  for (const camera of state.cameras) pictures.get(camera.name)?.note(captionOf(camera), camera.status);
  people.clean();
}

function connect() {
  if (socket || document.hidden) return;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/watch`);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => { wait = 500; setText(connection, "Connected"); refresh(); });
  socket.addEventListener("message", (message) => {
    if (typeof message.data === "string") showState(JSON.parse(message.data));
    else showImage(message.data);
  });
  socket.addEventListener("close", () => {
    socket = null;
    people.clean();
    if (document.hidden) return;
    setText(connection, "No connection; trying again");
    explain();
    setTimeout(connect, wait);
    wait = Math.min(2 * wait, 5000);
  });
}

// After a restart with another token the page has to be signed in again.
async function explain() {
  const response = await fetch("/cameras").catch(() => null);
  if (response?.status !== 401 || connection.querySelector("a")) return;
  const link = element("a", "Sign in again");
  link.href = "/sign-in";
  connection.replaceChildren("The token is not valid any more. ", link);
}

function refresh() { if (socket?.readyState === WebSocket.OPEN) session.refresh().catch(() => {}); }

document.addEventListener("visibilitychange", () => {
  if (document.hidden) socket?.close();
  else connect();
});
setInterval(refresh, SESSION);
connect();
