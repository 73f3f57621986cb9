// Every page: the list on narrow screens, times in the reader's own zone, leaving every tab.

const sidebar = document.getElementById("sidebar");
const shade = document.querySelector(".shade");
const opener = document.querySelector("[data-open-sidebar]");

function slide(open) {
  sidebar.classList.toggle("open", open);
  shade.hidden = !open;
  opener?.setAttribute("aria-expanded", String(open));
  if (open) sidebar.querySelector("a")?.focus();
  else opener?.focus();
}

opener?.addEventListener("click", () => slide(true));
for (const closer of document.querySelectorAll("[data-close-sidebar]")) {
  closer.addEventListener("click", () => slide(false));
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && sidebar?.classList.contains("open")) slide(false);
});

const clock = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });

function localTimes() {
  for (const time of document.querySelectorAll("time[datetime]:not([data-local])")) {
    time.dataset.local = "";
    time.textContent = clock.format(new Date(time.dateTime));
  }
}
localTimes();
document.addEventListener("grown", localTimes);

for (const toast of document.querySelectorAll("[data-fades]")) {
  setTimeout(() => toast.remove(), 10_000);
  const clean = new URL(location.href);
  clean.searchParams.delete("deleted");
  history.replaceState(null, "", clean);
}

// Signing out in one tab signs out all of them: whoever stands at the door tells the others.
const doors = new BroadcastChannel("mongars-doors");
if (document.querySelector("[data-signed-out]")) {
  doors.postMessage("left");
  for (const key of Object.keys(localStorage)) if (key.startsWith("draft:")) localStorage.removeItem(key);
} else if (sidebar) {
  doors.addEventListener("message", () => location.reload());
}
