// What every page does: theme switch, local times in tooltips, copy buttons, filters that apply themselves, the chart.

import { copyButtons } from "./clipboard.js";
import { liveChart } from "./chart.js";

function toggleTheme() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const next = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  if (next === system) delete root.dataset.theme;
  else root.dataset.theme = next;
  try {
    if (next === system) localStorage.removeItem("theme");
    else localStorage.setItem("theme", next);
  } catch {
    // Storage is blocked: the choice lasts for this page.
  }
}

function showLocalTimes() {
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  for (const time of document.querySelectorAll("time[datetime]")) {
    time.title = `${local.format(new Date(time.dateTime))}\n${time.title}`;
  }
}

document.querySelector("[data-theme-toggle]")?.addEventListener("click", toggleTheme);
for (const control of document.querySelectorAll("[data-submit]")) {
  control.addEventListener("change", () => control.form.requestSubmit());
}
for (const form of document.querySelectorAll("form[method=get]")) {
  // An address names only the filters that are set.
  form.addEventListener("formdata", ({ formData }) => {
    for (const [name, value] of [...formData]) if (value === "") formData.delete(name);
  });
}
showLocalTimes();
copyButtons(document);
for (const figure of document.querySelectorAll("[data-chart]")) liveChart(figure);
