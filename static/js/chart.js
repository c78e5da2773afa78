// The tooltip of a bar chart that the server drew: by pointer, or by arrow keys once the chart has the focus.

function fill(tip, column) {
  const title = document.createElement("strong");
  title.textContent = column.dataset.name;
  const total = document.createElement("span");
  total.textContent = column.dataset.total;
  const head = document.createElement("div");
  head.className = "head";
  head.append(title, total);
  const rows = [...column.querySelectorAll("rect[data-label]")].reverse().map((segment) => {
    const row = document.createElement("div");
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    swatch.setAttribute("class", "swatch");
    const paint = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    paint.setAttribute("class", segment.getAttribute("class"));
    paint.setAttribute("width", "100%");
    paint.setAttribute("height", "100%");
    swatch.append(paint);
    const name = document.createElement("span");
    name.textContent = segment.dataset.label;
    const value = document.createElement("b");
    value.textContent = segment.dataset.value;
    row.append(swatch, name, value);
    return row;
  });
  tip.replaceChildren(head, ...rows);
}

export function liveChart(figure) {
  const plot = figure.querySelector(".plot");
  const columns = [...plot.querySelectorAll(".column")];
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  figure.querySelector(".frame").append(tip);
  for (const title of plot.querySelectorAll("title")) title.remove(); // the tooltip says it all
  let current = -1;

  function show(index) {
    current = index;
    columns.forEach((column, n) => column.classList.toggle("current", n === index));
    tip.hidden = index < 0;
    if (index < 0) return;
    fill(tip, columns[index]);
    const frame = figure.querySelector(".frame").getBoundingClientRect();
    const slot = columns[index].querySelector(".hit").getBoundingClientRect();
    const right = slot.right - frame.left + 8;
    const fits = right + tip.offsetWidth <= frame.width;
    const left = fits ? right : Math.max(0, slot.left - frame.left - tip.offsetWidth - 8);
    tip.style.transform = `translate(${Math.round(left)}px, 0)`;
  }

  plot.addEventListener("pointermove", (event) => {
    const column = event.target.closest(".column");
    if (column && columns.indexOf(column) !== current) show(columns.indexOf(column));
  });
  plot.addEventListener("pointerleave", () => show(-1));
  plot.tabIndex = 0;
  plot.addEventListener("blur", () => show(-1));
  plot.addEventListener("keydown", (event) => {
    const last = columns.length - 1;
    const target = {
      ArrowLeft: current < 0 ? last : Math.max(0, current - 1),
      ArrowRight: Math.min(last, current + 1),
      Home: 0,
      End: last,
      Escape: -1,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    show(target);
  });
}
