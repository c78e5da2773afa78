// Markdown of a model, made safe, and cheap while it streams: only the blocks that changed are drawn again.

import { Lexer, Parser, Renderer } from "../../vendor/marked.esm.js";
import "../../vendor/purify.min.js";

const purify = globalThis.DOMPurify;

// No images: an answer must not make the browser call other servers. No styles, ids or names either.
const ALLOWED = {
  ALLOWED_TAGS: (
    "a p br hr strong em del code pre blockquote ul ol li h1 h2 h3 h4 h5 h6 table thead tbody tr th td input sup sub"
  ).split(" "),
  ALLOWED_ATTR: ["href", "title", "start", "align", "class", "type", "checked", "disabled", "target", "rel"],
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
  if (node.tagName === "INPUT" && node.getAttribute("type") !== "checkbox") node.remove();
  if (node.hasAttribute?.("class") && !/^language-[\w+#.-]+$/.test(node.getAttribute("class"))) {
    node.removeAttribute("class");
  }
});

// HTML in an answer is shown as text: it is an example more often than a wish, and nothing of it can ever run.
const renderer = new Renderer();
renderer.html = ({ text }) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function drawBlock(token) {
  const block = document.createElement("div");
  block.append(purify.sanitize(Parser.parse([token], { gfm: true, renderer }), ALLOWED));
  for (const pre of block.querySelectorAll("pre")) {
    const code = pre.querySelector("code");
    const language = code?.className.replace("language-", "") ?? "";
    if (language) pre.dataset.language = language;
    pre.tabIndex = 0; // scrolls by keyboard
  }
  for (const table of block.querySelectorAll("table")) {
    const scroll = document.createElement("div");
    scroll.className = "scroll";
    table.replaceWith(scroll);
    scroll.append(table);
  }
  return block;
}

export class MarkdownView {
  #drawn = []; // the source text of each block on show

  constructor(element) {
    this.element = element;
  }

  update(text) {
    const tokens = Lexer.lex(text, { gfm: true }).filter((token) => token.type !== "space");
    tokens.forEach((token, index) => {
      if (this.#drawn[index] === token.raw) return;
      const block = drawBlock(token);
      const before = this.element.children[index];
      if (before) before.replaceWith(block);
      else this.element.append(block);
      this.#drawn[index] = token.raw;
    });
    this.#drawn.length = tokens.length;
    while (this.element.children.length > tokens.length) this.element.lastElementChild.remove();
  }
}
