// One answer on the page: streamed text, its footer, why this route, and what went wrong.

import { copyText } from "../clipboard.js";
import { adviceFor } from "./errors.js";
import { duration, money, pace, tokens } from "./figures.js";
import { MarkdownView } from "./markdown.js";
import { candidateText, factsText } from "./why.js";

const VERDICTS = { chosen: ["ok", "chosen"], fallback: ["idle", "in reserve"], skipped: ["skip", "skipped"] };
const FINISHED = {
  stop: "finished",
  length: "cut at max tokens",
  tool_calls: "asked for a tool",
  content_filter: "cut by the content filter",
  cancelled: "stopped",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${document.getElementById("main").dataset.icons}#${name}`);
  svg.append(use);
  return svg;
}

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function tool(name, label, onClick) {
  const button = make("button", "button plain tiny");
  button.type = "button";
  button.append(icon(name), make("span", "", label));
  button.addEventListener("click", () => onClick(button));
  return button;
}

function candidateItem(candidate) {
  const [picture, word] = VERDICTS[candidate.verdict] ?? ["idle", candidate.verdict];
  const item = make("li", candidate.verdict);
  const what = make("div");
  what.append(make("code", "", candidate.deployment), make("span", "verdict", word));
  what.append(make("p", "", candidateText(candidate)));
  item.append(icon(picture), what);
  return item;
}

function routeDetails(message) {
  const { decision } = message.route;
  const details = make("details", "why");
  const list = make("ol");
  list.append(...(decision.candidates ?? []).map(candidateItem));
  details.append(make("summary", "", "Why this route?"));
  details.append(make("p", "soft", factsText(decision)), list);
  if (message.requestId) {
    const link = make("a", "", "Open the request's record");
    link.href = `/dashboards/requests/${message.requestId}/`;
    details.append(link);
  }
  return details;
}

function footerParts(message) {
  const { usage, route } = message;
  const parts = [];
  if (route) parts.push(make("strong", "", route.model || route.deployment));
  if (usage) {
    const input = usage.input_tokens + (usage.cache_read_input_tokens ?? 0);
    parts.push(make("span", "", `${tokens(input)} → ${tokens(usage.output_tokens)} tokens`));
    parts.push(make("strong", "", money(usage.cost_usd)));
    if (usage.ttft_ms !== null && usage.ttft_ms !== undefined) {
      parts.push(make("span", "", `first token ${duration(usage.ttft_ms)}`));
    }
    if (route?.attempts > 1) parts.push(make("span", "retried", `${route.attempts} tries`));
    if (pace(usage)) parts.push(make("span", "", pace(usage)));
  }
  if (message.finish) parts.push(make("span", "", FINISHED[message.finish] ?? message.finish));
  return parts;
}

/** The view of one assistant message {content, reasoning, route, usage, finish, error, requestId}. */
export class AnswerView {
  #frame = 0;

  constructor(message, { onRetry }) {
    this.message = message;
    this.onRetry = onRetry;
    this.element = make("article", "answer");
    this.element.setAttribute("aria-label", "Answer");
    this.thinking = make("details", "thinking");
    this.thought = make("p");
    this.thinking.append(make("summary", "", "Reasoning"), this.thought);
    this.text = make("div", "prose");
    this.markdown = new MarkdownView(this.text);
    this.wait = make("div", "wait");
    this.wait.append(make("i"), make("i"), make("i"), make("span", "visually-hidden", "Waiting for the first words"));
    this.foot = make("footer");
    this.element.append(this.thinking, this.text, this.wait, this.foot);
  }

  /** Draw at the next frame; many deltas then cost one drawing. */
  later() {
    this.#frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const { message } = this;
    this.thinking.hidden = !message.reasoning;
    this.thought.textContent = message.reasoning;
    this.markdown.update(message.content);
    this.wait.hidden = !message.streaming || Boolean(message.content);
    this.element.classList.toggle("streaming", Boolean(message.streaming));
    this.element.setAttribute("aria-busy", String(Boolean(message.streaming)));
    if (!message.streaming) this.#finish();
    this.onDrawn?.();
  }

  #finish() {
    const { message } = this;
    const facts = make("p", "figures");
    facts.append(...footerParts(message));
    const tools = make("div", "tools");
    if (message.content) tools.append(tool("copy", "Copy", (button) => copyText(button, message.content)));
    if (!message.error) tools.append(tool("again", "Regenerate", () => this.onRetry(message)));
    this.foot.replaceChildren(...(facts.childElementCount ? [facts] : []), tools);
    if (message.route?.decision) this.foot.append(routeDetails(message));
    this.element.querySelector(".failed")?.remove();
    if (message.error) this.foot.before(this.#failure());
    for (const pre of this.text.querySelectorAll("pre")) {
      if (pre.parentElement.classList.contains("codeblock")) continue;
      const box = make("div", "codeblock");
      const bar = make("div", "codebar");
      const text = pre.textContent;
      bar.append(make("span", "", pre.dataset.language ?? ""), tool("copy", "Copy", (button) => copyText(button, text)));
      pre.replaceWith(box);
      box.append(bar, pre);
    }
  }

  #failure() {
    const { error, requestId } = this.message;
    const box = make("div", "failed");
    box.setAttribute("role", "alert");
    const what = make("div");
    what.append(make("strong", "", error.message), make("p", "", adviceFor(error.code)));
    const ids = make("p", "ids");
    ids.append(make("code", "", error.code));
    if (error.request_id ?? requestId) ids.append(` request ${error.request_id ?? requestId}`);
    what.append(ids);
    const retry = tool("again", "Try again", () => this.onRetry(this.message));
    retry.className = "button tiny";
    box.append(icon("bad"), what, retry);
    return box;
  }
}
