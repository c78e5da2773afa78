// A replay under way: its bar moves once a second; when its state changes, its part of the page is fetched anew.
// Without scripts the page says the same when it is loaded again.

const EVERY_MS = 1000;
const PATIENCE = 5; // failed looks in a row

async function look(address) {
  const response = await fetch(address, { headers: { accept: "application/json" } });
  if (response.redirected || !response.ok) throw new Error(String(response.status));
  return response.json();
}

function show(result, found) {
  const bar = result.querySelector("progress");
  const words = result.querySelector("[data-replay-words]");
  if (!bar || !found.total) return;
  bar.value = found.percent;
  words.textContent = `${found.done.toLocaleString("en")} of ${found.total.toLocaleString("en")} decisions`;
}

async function renew(panel) {
  if (!panel.dataset.replay) {
    location.reload();
    return;
  }
  const response = await fetch(panel.dataset.replay);
  if (response.redirected || !response.ok) throw new Error(String(response.status));
  panel.innerHTML = await response.text(); // our own template, which escapes
  watch(panel);
}

function watch(panel) {
  const result = panel.querySelector("[data-replay-state]");
  if (!result) return;
  let failed = 0;
  const again = async () => {
    try {
      const found = await look(result.dataset.replayState);
      failed = 0;
      if (`${found.state} ${found.dial}`.trim() !== result.dataset.replayNow.trim()) return renew(panel);
      show(result, found);
    } catch {
      failed += 1;
    }
    const words = result.querySelector("[data-replay-words]");
    if (failed < PATIENCE) setTimeout(again, EVERY_MS);
    else if (words) words.textContent = "This page cannot see how far it is. Reload it.";
  };
  setTimeout(again, EVERY_MS);
}

for (const panel of document.querySelectorAll("[data-replay]")) watch(panel);
