// The page: one WebSocket for all images, and the session every few seconds.

import { CameraTable, captionOf } from "./cameras.js";
import { People } from "./people.js";
import { Picture } from "./picture.js";
import { SessionView } from "./session.js";
import { WATCHING, element, setColors, setText } from "./words.js";

const SESSION = 3000; // milliseconds between two looks at the session
const SILENCE = 6000; // milliseconds without a message after which the server is gone: it sends one every second
const UNKNOWN = { reason: "", fps: null, dropped: null, lost: null, latency_p50_ms: null, latency_p95_ms: null, people: null };
const live = document.getElementById("live");
const connection = document.getElementById("connection");
const notice = document.getElementById("notice");
const people = new People(document.getElementById("cards"), document.getElementById("spoken"));
const session = new SessionView();
const table = new CameraTable(document.getElementById("cameras"), document.getElementById("add-camera"),
  document.getElementById("camera-problem"));
const pictures = new Map();
const decoder = new TextDecoder();
let socket = null;
let wait = 500;
let heard = 0; // when the latest message came
let latest = null; // the latest state
let ended = false; // the server said that the run has ended, and has not been there since

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

// The notice tells people in front of a camera what is known now.
function showNotice(statuses) {
  const ended = statuses.length > 0 && statuses.every((status) => status === "ended");
  const idle = statuses.length > 0 && statuses.every((status) => status === "ended" || status === "paused");
  const unknown = statuses.includes("unknown");
  const text = unknown ? "may be running" : ended ? "has ended" : idle ? "is paused" : "is running";
  setText(notice, `Emotion recognition ${text}`);
  notice.parentElement.classList.toggle("quiet", text !== "is running");
}

function showState(state) {
  latest = state;
  setColors(state.colors);
  showMode(state);
  table.show(state.cameras, state.can_add);
  const names = new Set(state.cameras.map((camera) => camera.name));
  for (const [name, picture] of pictures) {
    if (!names.has(name)) { picture.remove(); pictures.delete(name); }
  }
  for (const camera of state.cameras) pictures.get(camera.name)?.note(captionOf(camera), camera.status);
  const statuses = state.cameras.map((camera) => camera.status);
  showNotice(statuses);
  people.clean(statuses.length === 0 || statuses.some((status) => WATCHING.includes(status)));
}

// Without a connection, nothing that was true a moment ago is known to be true now.
function showLost(status) {
  const cameras = (latest?.cameras ?? []).map((camera) => ({ ...UNKNOWN, name: camera.name, status }));
  people.clear();
  if (latest) showState({ ...latest, cameras });
  showNotice([status]);
  people.clean(false);
  session.stop();
}

function connect() {
  if (socket || document.hidden) return;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const own = socket = new WebSocket(`${scheme}://${location.host}/watch`);
  socket.binaryType = "arraybuffer";
  heard = performance.now();
  socket.addEventListener("open", () => {
    if (own !== socket) return;
    wait = 500;
    ended = false;
    setText(connection, "Connected");
    showNotice([]);
    refresh();
  });
  socket.addEventListener("message", (message) => {
    if (own !== socket) return;
    heard = performance.now();
    if (typeof message.data === "string") showState(JSON.parse(message.data));
    else showImage(message.data);
  });
  socket.addEventListener("close", (event) => {
    if (own !== socket) return;
    ended ||= event.reason === "the run has ended";
    lose();
  });
}

function lose() {
  socket.close();
  socket = null;
  showLost(ended ? "ended" : "unknown");
  if (document.hidden) return;
  setText(connection, ended ? "The run has ended; waiting for the next one" : "No connection; trying again");
  explain();
  setTimeout(connect, wait);
  wait = Math.min(2 * wait, 5000);
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
setInterval(() => { if (socket && performance.now() - heard > SILENCE) lose(); }, 1000);
connect();
