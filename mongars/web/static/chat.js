// One conversation: say, see the answer grow, stop it, and lose nothing on the way.
//
// Over the socket come the words of an answer (`delta`) and its finished blocks as HTML (`block`).
// Blocks are put in once and never touched again; only the words after them are plain text, in one
// text node. So a word costs the same at the end of a long answer as at its start.

const $ = (id) => document.getElementById(id);
const words = JSON.parse($("words").textContent);
const say = (name, facts = {}) => words[name].replace(/\{(\w+)\}/g, (_, key) => facts[key]);

const scroller = $("scroller");
const messages = $("messages");
const form = $("composer");
const box = $("message");
const token = form.elements.csrfmiddlewaretoken.value;
const home = form.dataset.home;
const number = new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: 1 });

let conversation = messages.dataset.conversation || null;
let socket = null;
let failures = 0; // of the socket, one after the other
let retry = 0;
const turns = new Map(); // by turn_id; the running ones
const said = new Map(); // by client_id: what no event has answered yet

// ---- the server, by fetch ------------------------------------------------------------------

async function post(address, fields = {}) {
  const answer = await fetch(address, {
    method: "POST",
    headers: { Accept: "application/json", "X-CSRFToken": token },
    body: new URLSearchParams(fields),
  });
  const told = await answer.json().catch(() => ({}));
  if (answer.status === 401 && told.login) location.assign(told.login);
  if (!answer.ok) throw Object.assign(new Error(told.detail || answer.statusText), { status: answer.status, told });
  return told;
}

async function part(address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
  return answer.text();
}

let listing = 0;
function refreshList() {
  clearTimeout(listing);
  listing = setTimeout(async () => {
    const list = $("list");
    const html = await part(`${list.dataset.from}?current=${encodeURIComponent(conversation ?? "")}`).catch(() => null);
    if (html === null) return;
    list.innerHTML = html;
    const current = list.querySelector("[aria-current]");
    if (!current) return;
    document.querySelector(".bar .title").textContent = current.textContent;
    document.title = `${current.textContent} · monGARS`;
  }, 150);
}

/** Show what the server has stored, and after it the answers that are being made. */
async function refreshMessages() {
  if (!conversation) return;
  const asked = conversation;
  const html = await part(`${home}c/${asked}/messages`).catch(() => null);
  if (html === null || asked !== conversation) return;
  const follow = atEnd;
  messages.innerHTML = html;
  for (const turn of turns.values()) {
    for (const open of messages.querySelectorAll('[data-state="writing"]')) open.remove();
    messages.append(turn.article);
  }
  for (const one of said.values()) messages.append(one.person, one.turn.article);
  grown(messages);
  if (follow) toEnd();
}

// ---- the view ------------------------------------------------------------------------------

const copy = (name) => $(name).content.firstElementChild.cloneNode(true);

function grown(root) {
  for (const figure of root.querySelectorAll("figure.code:not(:has(> button))")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet small";
    button.textContent = words.copy;
    button.dataset.copyCode = "";
    figure.append(button);
  }
  document.dispatchEvent(new Event("grown"));
}

let atEnd = true; // whether the newest is followed; only scrolling up ends that
let top = 0;
function toEnd() {
  scroller.scrollTop = scroller.scrollHeight;
}
scroller.addEventListener("scroll", () => {
  const far = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
  if (far < 80) atEnd = true;
  else if (scroller.scrollTop < top) atEnd = false;
  top = scroller.scrollTop;
  $("to-end").hidden = far < 80;
}, { passive: true });
new ResizeObserver(() => { if (atEnd) toEnd(); }).observe(messages);
$("to-end").addEventListener("click", () => { atEnd = true; toEnd(); });

function tell(text, fault = false) {
  const place = $("said");
  place.hidden = !text;
  place.textContent = text ?? "";
  place.classList.toggle("fault", fault);
}

function showRunning() {
  const running = turns.size + said.size > 0;
  $("stop").hidden = !running;
  $("send").hidden = running;
}

function openTurn() {
  const article = copy("assistant");
  return {
    id: null, article, seq: 0, upto: 0, blocks: 0, tail: "", fresh: "", frame: 0, thinking: null,
    answer: article.querySelector(".answer"),
    text: article.querySelector(".tail").appendChild(document.createTextNode("")),
    note: article.querySelector(".note"),
  };
}

function note(turn, text, { live = false, fault = false } = {}) {
  turn.note.hidden = !text;
  turn.note.textContent = text ?? "";
  turn.note.className = `note${live ? " live" : ""}${fault ? " fault" : ""}`;
}

/** Put what has come since the last picture into the page, at most once a picture. */
function draw(turn) {
  if (turn.frame) return;
  turn.frame = requestAnimationFrame(() => {
    turn.frame = 0;
    flush(turn);
    if (atEnd) toEnd();
  });
}

function flush(turn) {
  if (!turn.fresh) return;
  const plain = turn.fresh.replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd"); // as the server does
  turn.text.appendData(plain);
  turn.tail += plain;
  turn.fresh = "";
  shape(turn);
}

/** An open program looks like one before its end is there. */
function shape(turn) {
  turn.text.parentElement.classList.toggle("program", /^(```|~~~)/.test(turn.tail.slice(0, 3)));
}

/** The text without its first `count` characters, counted as the server counts: by code point. */
function without(text, count) {
  let at = 0;
  while (count-- > 0 && at < text.length) at += text.codePointAt(at) > 0xffff ? 2 : 1;
  return text.slice(at);
}

function addBlock(turn, event) {
  if (event.index < turn.blocks) return; // seen before the connection broke
  flush(turn);
  const html = document.createElement("template");
  html.innerHTML = event.html;
  grown(html.content);
  turn.answer.append(html.content);
  turn.tail = without(turn.tail, event.upto - turn.upto);
  turn.upto = event.upto;
  turn.blocks = event.index + 1;
  turn.text.data = turn.tail;
  shape(turn);
  draw(turn);
}

function startOver(turn, text) {
  turn.answer.replaceChildren();
  Object.assign(turn, { blocks: 0, upto: 0, tail: "", fresh: text ?? "" });
  turn.text.data = "";
  draw(turn);
}

/** A model as people call it; only one that runs elsewhere needs to say where. */
const named = (model) => model.replace(/^embedded\//, "");

function facts(turn, event) {
  const details = turn.article.querySelector(".facts");
  const { usage = {}, timing = {}, message } = event;
  details.querySelector("summary").textContent = named(message?.model ?? turn.model ?? "");
  const told = [];
  if (usage?.completion_tokens) told.push(say("tokens", { count: number.format(usage.completion_tokens) }));
  if (timing?.total_ms) told.push(say("seconds", { seconds: number.format(timing.total_ms / 1000) }));
  if (timing?.first_token_ms) told.push(say("first_token", { seconds: number.format(timing.first_token_ms / 1000) }));
  details.querySelector("p").textContent = told.join(" · ");
}

function end(turn, event) {
  cancelAnimationFrame(turn.frame);
  flush(turn);
  turns.delete(turn.id);
  asked.add(turn.id); // nothing that comes late begins it anew
  turn.article.removeAttribute("aria-busy");
  const id = event.message?.id;
  if (id) {
    for (const older of messages.querySelectorAll("[data-again]")) {
      if (!turn.article.contains(older)) older.remove();
    }
    for (const again of turn.article.querySelectorAll("[data-again]")) again.action = again.action.replace("MESSAGE", id);
    turn.article.querySelector("[data-continue]").hidden = event.finish_reason === "stop";
    facts(turn, event);
    turn.article.querySelector("footer").hidden = false;
  }
  showRunning();
  refreshList();
  if (id) turn.article.dataset.id = id;
  if (turn.tail.trim()) refreshMessages(); // it came without blocks and is still plain text
  if (atEnd) toEnd();
}

// ---- events of a turn ----------------------------------------------------------------------

const elsewhere = new Set(); // turns of other conversations
const asked = new Set(); // turns whose beginning we have asked for

function turnOf(event) {
  const known = turns.get(event.turn_id);
  if (known || elsewhere.has(event.turn_id)) return known;
  const [only] = said.size === 1 ? said.values() : [];
  if (event.type === "started") return adopt(event, said.get(event.client_id));
  if (event.type === "failed" && only) return adopt(event, only); // it never started
  if (event.type === "queued") {
    if (only) on.queued(only.turn, event);
  } else if (!asked.has(event.turn_id)) {
    asked.add(event.turn_id);
    send({ type: "resume", turn_id: event.turn_id, after: 0, render: "html" });
  }
  return null;
}

function adopt(event, mine) {
  if (!mine && event.conversation_id !== conversation) {
    elsewhere.add(event.turn_id);
    return null;
  }
  const turn = mine?.turn ?? openTurn();
  turn.id = event.turn_id;
  turns.set(turn.id, turn);
  if (mine) {
    for (const [clientId, one] of said) if (one === mine) said.delete(clientId);
    forgetDraft();
  } else {
    for (const open of messages.querySelectorAll('[data-state="writing"]')) open.remove();
    messages.append(turn.article);
    refreshMessages(); // somebody's words that we have not seen stand before this answer
  }
  showRunning();
  return turn;
}

function enter(id) {
  if (!id || id === conversation) return;
  conversation = id;
  messages.dataset.conversation = id;
  form.elements.conversation_id.value = id;
  history.replaceState(null, "", `${home}c/${id}`);
  for (const one of document.querySelectorAll("[data-conversation-action]")) {
    one.action = `${home}c/${id}/${one.dataset.conversationAction}`;
  }
  document.querySelector("[data-conversation-menu]").hidden = false;
  send({ type: "watch", conversation_id: id, render: "html" });
  refreshList();
}

const on = {
  queued(turn, event) {
    note(turn, event.position > 0 ? say("queued", { position: event.position }) : words.waiting, { live: true });
  },
  started(turn, event) {
    enter(event.conversation_id);
    turn.model = event.model;
    if (event.model) $("model-name").textContent = named(event.model);
    note(turn, words.waiting, { live: true });
    $("status").textContent = words.answering;
  },
  progress(turn, event) {
    if (!event.total) return;
    note(turn, say("reading", { percent: Math.floor((100 * event.done) / event.total) }), { live: true });
  },
  thinking(turn, event) {
    const details = turn.article.querySelector(".thinking");
    turn.thinking ??= details.lastElementChild.appendChild(document.createTextNode(""));
    details.hidden = false;
    details.firstElementChild.textContent = words.thought;
    turn.thinking.appendData(event.text);
    note(turn, words.thinking, { live: true });
  },
  delta(turn, event) {
    if (!turn.note.hidden && turn.note.classList.contains("live")) note(turn, null);
    turn.fresh += event.text;
    draw(turn);
  },
  block: addBlock,
  notice(turn, event) {
    const line = document.createElement("p");
    line.className = "note";
    line.textContent = event.text;
    turn.note.before(line);
  },
  reset(turn, event) {
    startOver(turn, event.text);
  },
  done(turn, event) {
    const why = { stopped: words.stopped, length: words.cut }[event.finish_reason];
    note(turn, why);
    $("status").textContent = why ?? words.answered;
    end(turn, event);
  },
  failed(turn, event) {
    note(turn, [words.failed, event.problem?.detail, words.kept].filter(Boolean).join(" · "), { fault: true });
    end(turn, event);
  },
};

function heard(event) {
  if (event.type === "changed") {
    refreshList();
    return;
  }
  if (event.type === "error") {
    refused(said.get(event.client_id), event.client_id, event.problem);
    return;
  }
  const turn = event.turn_id && turnOf(event);
  if (!turn) return;
  if (event.seq) {
    if (event.seq <= turn.seq) return;
    turn.seq = event.seq;
  }
  on[event.type]?.(turn, event);
}

/** What was said was not taken: give the words back. */
function refused(mine, clientId, problem) {
  tell(problem?.detail ?? problem?.title ?? "", true);
  if (!mine) return;
  said.delete(clientId);
  mine.person.remove();
  mine.turn.article.remove();
  box.value = mine.message;
  keepDraft();
  showRunning();
}

// ---- the socket ----------------------------------------------------------------------------

const open = () => socket?.readyState === WebSocket.OPEN;

function send(frame) {
  if (!open()) return false;
  socket.send(JSON.stringify(frame));
  return true;
}

async function connect() {
  clearTimeout(retry);
  let ticket;
  try {
    ({ ticket } = await post(form.dataset.ticket));
  } catch {
    later();
    return;
  }
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const fresh = new WebSocket(`${scheme}://${location.host}${form.dataset.socket}?ticket=${encodeURIComponent(ticket)}`);
  socket = fresh;
  fresh.addEventListener("open", () => {
    failures = 0;
    tell(null);
    send({ type: "watch", ...(conversation && { conversation_id: conversation }), render: "html" });
    for (const turn of turns.values()) send({ type: "resume", turn_id: turn.id, after: turn.seq, render: "html" });
    for (const [clientId, one] of said) sayIt(clientId, one);
  });
  fresh.addEventListener("message", (frame) => heard(JSON.parse(frame.data)));
  fresh.addEventListener("close", () => {
    if (socket !== fresh) return;
    socket = null;
    later();
  });
}

function later() {
  failures += 1;
  if (!navigator.onLine) tell(words.offline);
  else if (failures > 2) tell(words.without_socket);
  else if (failures > 1 || turns.size) tell(words.reconnecting);
  if (failures > 2) for (const [clientId, one] of said) sayAgain(clientId, one);
  retry = setTimeout(connect, Math.min(5_000, 300 * 2 ** failures) * (0.75 + Math.random() / 2));
}

addEventListener("online", connect);
addEventListener("offline", () => tell(words.offline));
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && !socket) connect();
});

// ---- saying --------------------------------------------------------------------------------

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Say it over the socket; said again with the same key after a cut, it is the same turn. */
function sayIt(clientId, one) {
  if (one.posting) return;
  one.waiting = !send({
    type: "say", message: one.message, client_id: clientId, idempotency_key: clientId,
    ...(one.conversation && { conversation_id: one.conversation }),
  });
}

/** Say it by form: with the same key it is the same turn, should it have arrived already. */
async function sayAgain(clientId, one) {
  if (one.posting) return;
  one.posting = true;
  note(one.turn, words.waiting, { live: true });
  const fields = { message: one.message, client_id: clientId, ...(one.conversation && { conversation_id: one.conversation }) };
  try {
    const told = await post(form.action, fields);
    said.delete(clientId);
    turns.delete(told.turn_id);
    forgetDraft();
    enter(told.conversation_id);
    one.turn.article.remove();
    await refreshMessages();
  } catch (error) {
    if (error.status) refused(one, clientId, error.told);
    one.posting = false;
  }
  showRunning();
}

function submit() {
  const message = box.value.trim();
  if (!message) return;
  if (turns.size + said.size) {
    tell(words.busy);
    return;
  }
  tell(null);
  $("welcome")?.remove();
  const one = { message, conversation, person: copy("person"), turn: openTurn(), waiting: false, posting: false };
  one.person.querySelector(".words").textContent = message;
  messages.append(one.person, one.turn.article);
  const clientId = newId();
  said.set(clientId, one);
  box.value = "";
  resize();
  showRunning();
  atEnd = true;
  toEnd();
  sayIt(clientId, one);
  if (one.waiting && failures > 2) sayAgain(clientId, one);
  else if (one.waiting) tell(navigator.onLine ? words.reconnecting : words.offline);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
box.addEventListener("keydown", (event) => {
  const touch = matchMedia("(pointer: coarse)").matches;
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || touch) return;
  event.preventDefault();
  submit();
});

$("stop").addEventListener("click", () => {
  for (const turn of turns.values()) {
    if (!send({ type: "stop", turn_id: turn.id })) post(`${home}turns/${turn.id}/stop`).catch(() => {});
  }
});

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-again]")) return;
  event.preventDefault();
  event.target.closest(".message").remove(); // what it said so far comes again, if it goes on
  post(event.target.action).catch((error) => {
    tell(error.message, true);
    refreshMessages();
  });
});

// ---- drafts, copying -----------------------------------------------------------------------

const draftKey = () => `draft:${conversation ?? ""}`;
function keepDraft() {
  if (box.value) localStorage.setItem(draftKey(), box.value);
  else localStorage.removeItem(draftKey());
}
function forgetDraft() {
  localStorage.removeItem("draft:");
  localStorage.removeItem(draftKey());
}
function resize() {
  if (CSS.supports("field-sizing", "content")) return;
  box.rows = Math.min(10, box.value.split("\n").length);
}
box.addEventListener("input", () => { keepDraft(); resize(); });
if (box.value) keepDraft(); // written before this script was there
box.value ||= localStorage.getItem(draftKey()) ?? "";

messages.addEventListener("click", async (event) => {
  const link = event.target.closest("[data-earlier]");
  if (!link) return;
  event.preventDefault();
  const html = await part(link.dataset.earlier).catch(() => null);
  if (html === null) return;
  const height = scroller.scrollHeight;
  const older = document.createElement("template");
  older.innerHTML = html;
  link.parentElement.replaceWith(older.content);
  grown(messages);
  scroller.scrollTop += scroller.scrollHeight - height;
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-code]");
  if (!button) return;
  const from = button.closest("figure")?.querySelector("code") ?? button.closest(".message").querySelector(".answer");
  if (!navigator.clipboard) {
    getSelection().selectAllChildren(from);
    tell(words.no_copy);
    return;
  }
  await navigator.clipboard.writeText(from.innerText);
  $("status").textContent = words.copied;
  if (!button.matches("[data-copy-code]")) return;
  button.textContent = words.copied;
  setTimeout(() => { button.textContent = words.copy; }, 1500);
});

// ---- begin ---------------------------------------------------------------------------------

grown(messages);
toEnd();
connect();
form.dataset.ready = "";
