// The playground: joins the connection, the conversation and the page.

import { copyText } from "../clipboard.js";
import { AnswerView, icon, make, tool } from "./answer.js";
import { Conversation } from "./conversation.js";
import { money } from "./figures.js";
import { samplesOf } from "./samples.js";
import { Settings } from "./settings.js";
import * as snippets from "./snippets.js";
import { ChatSocket } from "./socket.js";

const $ = (id) => document.getElementById(id);
const NEAR_END_PX = 80;
const STATES = { connecting: "Connecting", reconnecting: "Reconnecting", ready: "Connected", refused: "Not connected" };

const conversation = new Conversation();
const settings = new Settings(JSON.parse($("personas").textContent), settingChanged);
const socket = new ChatSocket({ onFrame, onState });
let active = null; // {id, message, view} of the answer that is being written
let edited = null; // the user's message that the composer will replace
let following = true;

// --- the connection -------------------------------------------------------------------------------------------

function onState(state, text) {
  $("connection").dataset.state = state;
  $("connection-text").textContent = STATES[state];
  $("refused").hidden = state !== "refused";
  $("refused-text").textContent = text;
  if (state !== "ready" && active) {
    fail({ code: "connection_lost", message: "The connection was lost." });
  }
  refreshControls();
}

function onFrame(frame) {
  if (frame.type === "ready") {
    settings.offer(frame.models);
    return;
  }
  // A frame without an id is about the message that was sent last.
  if (!active || (frame.id && frame.id !== active.id)) return;
  const { message, view } = active;
  switch (frame.type) {
    case "start":
      message.requestId = frame.request_id;
      break;
    case "route":
      message.route = frame;
      break;
    case "delta":
      message.content += frame.text ?? "";
      message.reasoning = (message.reasoning ?? "") + (frame.reasoning ?? "");
      view.later();
      break;
    case "tool":
      message.content += `\n\nAsks for the tool \`${frame.name}\`:\n\n\`\`\`json\n${frame.arguments}\n\`\`\`\n`;
      view.later();
      break;
    case "usage":
      message.usage = frame;
      conversation.count(frame);
      break;
    case "done":
      message.finish = frame.finish_reason;
      settle();
      break;
    case "error":
      if (frame.code === "cancelled") {
        message.finish = "cancelled";
        settle();
      } else {
        fail(frame);
      }
      break;
  }
}

function settle() {
  const { message, view } = active;
  active = null;
  message.streaming = false;
  view.draw();
  conversation.save();
  refreshControls();
}

function fail(error) {
  active.message.error = { code: error.code, message: error.message, request_id: error.request_id };
  settle();
}

// --- asking -----------------------------------------------------------------------------------------------------

function ask(text) {
  if (!text.trim() || !socket.ready || active || !settings.valid) return false;
  if (edited) cutFrom(edited);
  endEdit();
  show(conversation.add({ role: "user", content: text }));
  request();
  return true;
}

function request() {
  const { persona, model, temperature, maxTokens, variables } = settings.value;
  const frame = { type: "chat", id: crypto.randomUUID?.() ?? String(Math.random()), model };
  frame.messages = conversation.forGateway();
  if (persona) frame.persona = persona;
  if (temperature !== "") frame.temperature = Number(temperature);
  if (maxTokens !== "") frame.max_tokens = Number(maxTokens);
  if (Object.keys(variables).length) frame.variables = variables;
  const message = conversation.add({ role: "assistant", content: "", streaming: true });
  following = true;
  active = { id: frame.id, message, view: show(message) };
  socket.send(frame);
  refreshControls();
}

function stop() {
  if (active) socket.send({ type: "stop", id: active.id });
}

function askAgain(message) {
  if (active || !socket.ready || !settings.valid) return;
  cutFrom(message);
  request();
}

function cutFrom(message) {
  const index = conversation.messages.indexOf(message);
  conversation.cut(message);
  while ($("log").children.length > index) $("log").lastElementChild.remove();
}

function startEdit(message) {
  if (active) return;
  edited = message;
  $("prompt").value = message.content;
  $("editing").hidden = false;
  fitPrompt();
  $("prompt").focus();
}

function endEdit() {
  edited = null;
  $("editing").hidden = true;
}

// --- the page ---------------------------------------------------------------------------------------------------

function show(message) {
  let view = null;
  if (message.role === "user") {
    const question = make("article", "question");
    question.setAttribute("aria-label", "You");
    question.append(make("p", "", message.content), tool("edit", "Edit", () => startEdit(message)));
    $("log").append(question);
  } else {
    view = new AnswerView(message, { onRetry: askAgain });
    view.onDrawn = follow;
    $("log").append(view.element);
    view.draw();
  }
  refreshControls();
  follow();
  return view;
}

function follow() {
  if (following) $("scroller").scrollTop = $("scroller").scrollHeight;
}

function watchScroll() {
  const { scrollTop, scrollHeight, clientHeight } = $("scroller");
  following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  $("to-end").hidden = following;
}

function refreshControls() {
  const empty = conversation.messages.length === 0;
  $("welcome").hidden = !empty;
  $("send").hidden = Boolean(active);
  $("stop").hidden = !active;
  $("send").disabled = !socket.ready;
  $("new-chat").disabled = empty || Boolean(active);
  $("export").disabled = empty;
  const { requests, usd, unpriced } = conversation.spent;
  const also = unpriced ? `, ${unpriced} unpriced` : "";
  $("spent").textContent = `${requests} ${requests === 1 ? "request" : "requests"} · ${money(usd)}${also}`;
}

function showSamples() {
  const { persona } = settings;
  $("welcome-title").textContent = persona ? `Ask ${article(persona.name)}` : "Ask any model";
  const samples = samplesOf(persona?.slug).map((text) => {
    const button = make("button", "sample", text);
    button.type = "button";
    button.addEventListener("click", () => {
      if (ask(text)) return;
      $("prompt").value = text;
      $("prompt").focus();
    });
    return button;
  });
  $("samples").replaceChildren(...samples);
}

function article(name) {
  return `${/^[aeiou]/i.test(name) ? "an" : "a"} ${name.toLowerCase()}`;
}

function settingChanged(id) {
  if (id === "team") socket.open(settings.value.team);
  if (id === "persona") showSamples();
}

function fitPrompt() {
  const prompt = $("prompt");
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight, innerHeight * 0.4)}px`;
}

function submit() {
  if (!ask($("prompt").value)) return;
  $("prompt").value = "";
  fitPrompt();
}

function showExport(format) {
  const { persona } = settings;
  const messages = conversation.forGateway();
  $("snippet").textContent = snippets[format](settings.value, messages);
  $("snippet-note").textContent = persona?.system_prompt ? "The persona's system prompt is added by the gateway." : "";
  for (const tab of document.querySelectorAll("[data-format]")) {
    tab.setAttribute("aria-pressed", String(tab.dataset.format === format));
  }
}

function wire() {
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  $("prompt").addEventListener("input", fitPrompt);
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (active) stop();
    else if (edited) cancelEdit();
  });
  $("stop").addEventListener("click", stop);
  $("cancel-edit").addEventListener("click", cancelEdit);
  $("scroller").addEventListener("scroll", watchScroll, { passive: true });
  $("to-end").addEventListener("click", () => {
    following = true;
    follow();
  });
  $("retry-connection").addEventListener("click", () => socket.open(settings.value.team));
  $("new-chat").addEventListener("click", () => {
    conversation.clear();
    $("log").replaceChildren();
    endEdit();
    refreshControls();
    $("prompt").focus();
  });
  $("export").addEventListener("click", () => {
    showExport("curl");
    $("export-dialog").showModal();
  });
  for (const tab of document.querySelectorAll("[data-format]")) {
    tab.addEventListener("click", () => showExport(tab.dataset.format));
  }
  $("copy-snippet").addEventListener("click", () => copyText($("copy-snippet"), $("snippet").textContent));
  $("close-export").addEventListener("click", () => $("export-dialog").close());
  $("toggle-settings").addEventListener("click", () => openSettings(!$("settings").classList.contains("open")));
  settings.onHidden = () => openSettings(true);
}

function openSettings(open) {
  $("settings").classList.toggle("open", open);
  $("toggle-settings").setAttribute("aria-expanded", String(open));
}

function cancelEdit() {
  endEdit();
  $("prompt").value = "";
  fitPrompt();
}

$("stop").prepend(icon("stop"));
conversation.messages.forEach(show);
showSamples();
refreshControls();
wire();
socket.open(settings.value.team);
