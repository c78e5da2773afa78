// The number keys press the buttons of the same number.
const form = document.querySelector("[data-labels]");

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
  if (!form || isTyping || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const button = form.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (button) button.click();
});
