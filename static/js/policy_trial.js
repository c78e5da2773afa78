// “Test this policy”: the answer appears under the form, without leaving the page. Without scripts the form's own page
// answers.

async function test(form, result) {
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  result.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { "x-requested-with": "fetch" },
    });
    if (response.redirected || !response.ok) throw new Error(String(response.status));
    result.innerHTML = await response.text(); // our own template, which escapes
  } catch (error) {
    const note = document.createElement("p");
    note.className = "test-problem";
    note.setAttribute("role", "alert");
    note.textContent = `No answer (${error.message}). Reload the page, sign in if asked, and try again.`;
    result.replaceChildren(note);
  } finally {
    button.disabled = false;
    result.removeAttribute("aria-busy");
  }
}

for (const form of document.querySelectorAll("[data-policy-test-form]")) {
  const result = form.querySelector("[data-policy-test-result]");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    test(form, result);
  });
}
