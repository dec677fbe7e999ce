"use strict";
// Keeps the parts of a page as the coordinator sees them. Without it the page is whole, and still.
(() => {
  const SOON = 2000, LATER = 15000;
  const parts = [...document.querySelectorAll("[data-part]")];
  const told = document.getElementById("told");
  const button = document.getElementById("pause");
  let paused = false, silent = false;

  const nameOf = (one) => one.getAttribute("aria-label") || one.textContent.trim();
  const all = (part, which) => [...part.querySelectorAll(which)];

  const saidIn = (part) => part.querySelector("[data-said]")?.dataset.said ?? "";

  // What the reader has done to a part: unfolded, scrolled, gone to.
  const remember = (part) => ({
    open: new Map(all(part, "details").map((one) => [nameOf(one.querySelector("summary")), one.open])),
    scrolled: new Map(all(part, "[role=region]").map((one) => [nameOf(one), one.scrollLeft])),
    said: saidIn(part),
    focused: part.contains(document.activeElement) ? nameOf(document.activeElement) : null,
  });

  const restore = (part, done) => {
    for (const one of all(part, "details")) one.open = done.open.get(nameOf(one.querySelector("summary"))) ?? one.open;
    for (const one of all(part, "[role=region]")) one.scrollLeft = done.scrolled.get(nameOf(one)) ?? 0;
    if (done.focused === null) return;
    const there = all(part, "a, summary, [tabindex]").find((one) => nameOf(one) === done.focused);
    if (there) there.focus({ preventScroll: true });
  };

  const isBeingCopied = (part) => {
    const selected = getSelection();
    return !selected.isCollapsed && part.contains(selected.anchorNode);
  };

  const look = async (part) => {
    const known = { "If-None-Match": `"${part.dataset.tag}"` };
    const answer = await fetch(part.dataset.part, { headers: known, cache: "no-store" });
    if (answer.status === 304) return false;
    if (!answer.ok) throw new Error(answer.status);
    const html = await answer.text();
    if (isBeingCopied(part)) return false;
    const done = remember(part);
    part.innerHTML = html;
    restore(part, done);
    part.dataset.tag = answer.headers.get("ETag").replaceAll('"', "");
    if (saidIn(part) !== done.said) told.textContent = saidIn(part);
    return true;
  };

  const turn = async () => {
    let changed = false;
    if (!paused && !document.hidden) {
      try {
        for (const part of parts) changed = (await look(part)) || changed;
        if (silent) told.textContent = "";
        silent = false;
      } catch {
        told.textContent = "The coordinator does not answer; this is what it said last.";
        silent = true;
      }
    }
    const still = !changed && parts.some((part) => part.querySelector(":scope > [data-ended]"));
    setTimeout(turn, silent || still ? LATER : SOON);
  };

  if (parts.length === 0) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
  });
  setTimeout(turn, SOON);
})();
