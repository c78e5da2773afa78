// Copy buttons: data-copy holds the text, or data-copy-from the id of the element whose text is meant. A button is hidden
// until it works.

export async function copyText(button, text) {
  const label = button.querySelector("span") ?? button;
  const before = label.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.classList.add("done");
    label.textContent = "Copied";
  } catch {
    label.textContent = "Press Ctrl+C";
  }
  setTimeout(() => {
    button.classList.remove("done");
    label.textContent = before;
  }, 1600);
}

export function copyButtons(root) {
  for (const button of root.querySelectorAll(":is([data-copy], [data-copy-from])[hidden]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const source = button.dataset.copyFrom && document.getElementById(button.dataset.copyFrom);
      copyText(button, source ? source.textContent : button.dataset.copy);
    });
  }
}
