// The connection to /ws/chat/: signs in with a short-lived token, stays up, and says what state it is in.

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;
const PING_MS = 25_000;
const BAD_TOKEN = 4401;
const BAD_ORIGIN = 4403;
const TOO_MANY = 4429;

async function fetchToken(team) {
  const response = await fetch("/playground/token/", {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "x-csrftoken": document.querySelector("[name=csrfmiddlewaretoken]").value,
    },
    body: JSON.stringify({ team }),
  });
  if (response.ok) return (await response.json()).token;
  if (response.status === 404 || response.status === 403) throw new Refused("You are not a member of this team any more.");
  if (response.status === 401) throw new Refused("You were signed out. Reload the page.");
  throw new Error(`no token: ${response.status}`);
}

/** Trying again would not help. */
class Refused extends Error {}

/** onState(state, text): connecting | ready | reconnecting | refused. onFrame(frame): everything the server sends. */
export class ChatSocket {
  #socket = null;
  #failures = 0;
  #timer = 0;
  #ping = 0;
  #round = 0;

  constructor({ onFrame, onState }) {
    this.onFrame = onFrame;
    this.onState = onState;
    this.ready = false;
    addEventListener("online", () => this.#timer && this.#connect());
  }

  /** Connect as this team; an earlier connection is closed. */
  open(team) {
    this.team = team;
    this.#failures = 0;
    this.#connect();
  }

  send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  async #connect() {
    const round = ++this.#round;
    this.#drop();
    this.onState(this.#failures ? "reconnecting" : "connecting", "");
    let token;
    try {
      token = await fetchToken(this.team);
    } catch (error) {
      if (round !== this.#round) return;
      if (error instanceof Refused) this.onState("refused", error.message);
      else this.#later(round);
      return;
    }
    if (round !== this.#round) return;
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/ws/chat/`);
    this.#socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token }));
    socket.onmessage = (event) => round === this.#round && this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => round === this.#round && this.#closed(event, round);
  }

  #receive(frame) {
    if (frame.type === "ready") {
      this.#failures = 0;
      this.ready = true;
      this.#ping = setInterval(() => this.send({ type: "ping" }), PING_MS);
      this.onState("ready", "");
    }
    if (frame.type !== "pong") this.onFrame(frame);
  }

  #closed(event, round) {
    this.#drop();
    if (event.code === BAD_ORIGIN) {
      this.onState("refused", "This address may not open a chat. Ask the operators to allow its origin.");
      return;
    }
    if (event.code === BAD_TOKEN && this.#failures >= 2) {
      this.onState("refused", "The server does not accept this team's playground key.");
      return;
    }
    if (event.code === TOO_MANY) this.#failures = Math.max(this.#failures, 5);
    this.#later(round);
  }

  #later(round) {
    const wait = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures) * (0.75 + Math.random() / 2);
    this.#failures += 1;
    this.onState("reconnecting", "");
    this.#timer = setTimeout(() => round === this.#round && this.#connect(), wait);
  }

  #drop() {
    clearTimeout(this.#timer);
    clearInterval(this.#ping);
    this.#timer = 0;
    this.ready = false;
    if (this.#socket) {
      this.#socket.onclose = null;
      this.#socket.close();
      this.#socket = null;
    }
  }
}
