// The editor of a prompt template: rows are added in place, and the preview follows what is typed. Without scripts there
// is one empty row at a time, and “Preview” loads the page again.

const PAUSE_MS = 500;

const form = document.querySelector("[data-template-editor]");
const shown = form.querySelector("[data-preview]");
let timer = 0;
let asked = 0;

async function preview() {
  const number = ++asked;
  const data = new FormData(form);
  data.set("_preview", "1");
  shown.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(form.action, { method: "POST", body: data, headers: { "x-requested-with": "fetch" } });
    if (response.redirected || !response.ok) throw new Error(String(response.status));
    const told = await response.text();
    if (number === asked) shown.innerHTML = told; // our own template, which escapes
  } catch (error) {
    if (number !== asked) return;
    const note = document.createElement("p");
    note.className = "test-problem";
    note.setAttribute("role", "alert");
    note.textContent = `No preview (${error.message}). Copy what you have written, reload the page, and sign in if asked.`;
    shown.replaceChildren(note);
  } finally {
    if (number === asked) shown.removeAttribute("aria-busy");
  }
}

function add(rows) {
  const total = rows.querySelector("[name$='-TOTAL_FORMS']");
  const made = rows.querySelector("template").content.cloneNode(true);
  for (const node of made.querySelectorAll("[name], [id], [for]")) {
    for (const name of ["name", "id", "for"]) {
      const value = node.getAttribute(name);
      if (value) node.setAttribute(name, value.replace("__prefix__", total.value));
    }
  }
  const row = made.querySelector("[data-row]");
  rows.querySelector("template").before(made);
  total.value = Number(total.value) + 1;
  row.querySelector("textarea, input:not([type='hidden'])").focus();
}

for (const rows of form.querySelectorAll("[data-rows]")) {
  const button = rows.querySelector("[data-add]");
  button.hidden = false;
  button.addEventListener("click", () => add(rows));
}

form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(preview, PAUSE_MS);
});

form.addEventListener("submit", (event) => {
  if (event.submitter?.name !== "_preview") return;
  event.preventDefault();
  clearTimeout(timer);
  preview();
});

preview();
