"""What the report page does when its controls are used: a script without libraries that reads the page's own attributes."""

from typing import Final

SCRIPT: Final = """
"use strict";
(() => {
  const form = document.getElementById("controls");
  if (!form) return;
  const control = form.elements;
  const rows = [...document.querySelectorAll(".row")];
  const orders = {
    worst: (a, b) => a.dataset.quality - b.dataset.quality,
    best: (a, b) => b.dataset.quality - a.dataset.quality,
    name: (a, b) => (a.dataset.name < b.dataset.name ? -1 : 1),
  };
  const wanted = (row) =>
    (!control.class.value || row.dataset.classes.split(" ").includes(control.class.value)) &&
    (!control.group.value || row.dataset.group === control.group.value) &&
    (!control.rank.value || row.dataset.rank === control.rank.value);

  function show() {
    for (const row of rows) row.hidden = !wanted(row);
    for (const group of document.querySelectorAll(".group")) {
      const own = [...group.querySelectorAll(".row")].sort(orders[control.order.value]);
      group.querySelector(".rows").append(...own);
      group.hidden = own.every((row) => row.hidden);
    }
    const count = rows.filter((row) => !row.hidden).length;
    control.shown.value = `${count} of ${rows.length} images`;
    document.documentElement.style.setProperty("--opacity", control.opacity.value / 100);
  }

  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  control.all.addEventListener("click", () => {
    form.reset();
    show();
  });
  for (const link of document.querySelectorAll("a[data-class]")) {
    link.addEventListener("click", () => {
      form.reset();
      control.class.value = link.dataset.class;
      show();
    });
  }
  form.hidden = false;
  show();
})();
""".strip()
