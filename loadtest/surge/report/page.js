"use strict";
// Reads the numbers of a chart out under the pointer. The page is whole without it.
for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const data = JSON.parse(svg.dataset.chart), figure = svg.closest("figure"), cursor = svg.querySelector(".cursor");
  const tip = figure.appendChild(Object.assign(document.createElement("div"), { className: "tip" }));
  const nearest = (x) => data.x.reduce((best, at, n) => (Math.abs(at - x) < Math.abs(data.x[best] - x) ? n : best), 0);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), n = nearest(((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width);
    cursor.setAttribute("x1", data.x[n]);
    cursor.setAttribute("x2", data.x[n]);
    cursor.style.opacity = 0.5;
    tip.replaceChildren(Object.assign(document.createElement("b"), { textContent: data.t[n] }));
    for (const series of data.s) {
      if (series.v[n] === null || series.v[n] === undefined) continue;
      const row = tip.appendChild(document.createElement("div"));
      row.className = `key k${series.c}`;
      row.textContent = `${series.n} `;
      row.appendChild(Object.assign(document.createElement("i"), { textContent: series.v[n] }));
    }
    const at = event.clientX - figure.getBoundingClientRect().left, right = at > figure.clientWidth / 2;
    tip.style.display = "block";
    tip.style.top = `${svg.offsetTop || box.top - figure.getBoundingClientRect().top + 10}px`;
    tip.style.left = right ? "auto" : `${at + 14}px`;
    tip.style.right = right ? `${figure.clientWidth - at + 14}px` : "auto";
  });
  svg.addEventListener("pointerleave", () => {
    cursor.style.opacity = 0;
    tip.style.display = "none";
  });
}
