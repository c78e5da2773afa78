// What was said, kept for this browser tab: a reload loses nothing, a closed tab forgets it.

const STORE = "playground";

export class Conversation {
  constructor() {
    this.messages = [];
    this.spent = { requests: 0, usd: 0, unpriced: 0 };
    this.#load();
  }

  #load() {
    let stored = null;
    try {
      stored = JSON.parse(sessionStorage.getItem(STORE));
    } catch {
      return; // blocked or damaged: start empty
    }
    if (!stored) return;
    this.messages = stored.messages;
    this.spent = stored.spent;
    for (const message of this.messages) {
      if (!message.streaming) continue;
      message.streaming = false;
      message.error = { code: "connection_lost", message: "The page was left before the answer was complete." };
    }
  }

  save() {
    try {
      sessionStorage.setItem(STORE, JSON.stringify({ messages: this.messages, spent: this.spent }));
    } catch {
      // Full or blocked: the conversation lives on in this page.
    }
  }

  add(message) {
    this.messages.push(message);
    this.save();
    return message;
  }

  /** Forget this message and all after it. */
  cut(message) {
    const index = this.messages.indexOf(message);
    if (index >= 0) this.messages.length = index;
    this.save();
  }

  clear() {
    this.messages = [];
    this.save();
  }

  count(usage) {
    this.spent.requests += 1;
    if (usage.cost_usd === null || usage.cost_usd === undefined) this.spent.unpriced += 1;
    else this.spent.usd += Number(usage.cost_usd);
  }

  /** As the gateway wants it: what failed before its first word is left out. */
  forGateway() {
    return this.messages
      .filter((message) => message.content && !message.streaming)
      .map(({ role, content }) => ({ role, content }));
  }
}
