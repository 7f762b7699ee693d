// What pages do beside what they do without script: live content, and buttons that copy.
"use strict";
(() => {
  const main = document.querySelector("main[data-live]");
  if (main) {
    const control = document.querySelector("[data-live-control]");
    let running = true;
    const busy = () => {
      const at = document.activeElement;
      return document.hidden || !running || (at && main.contains(at) && at.matches("input, select, textarea")) || main.querySelector("details[open]");
    };
    const show = (text) => { if (control) control.textContent = text; };
    const load = async () => {
      if (busy()) return;
      try {
        const answer = await fetch(location.href, { headers: { "X-Postern-Refresh": "1" }, redirect: "error", cache: "no-store" });
        if (!answer.ok) throw new Error(answer.status);
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (busy()) return;
        for (const old of main.querySelectorAll("[data-part]")) {
          const now = page.querySelector(`[data-part="${old.dataset.part}"]`);
          if (now && !old.contains(document.activeElement)) old.replaceWith(now);
        }
      } catch {
        running = false;
        show("Live: stopped");
      }
    };
    if (control) {
      control.hidden = false;
      control.addEventListener("click", () => {
        running = !running;
        show(running ? "Live: on" : "Live: off");
        control.setAttribute("aria-pressed", String(running));
        load();
      });
    }
    setInterval(load, Number(main.dataset.live) * 1000);
  }
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
      button.textContent = button.dataset.copied || "Copied";
    });
  }
})();
