(function () {
  "use strict";
  const root = document.currentScript && document.currentScript.closest(".httpuv");
  if (!root || !root.dataset.facts) return;
  const facts = JSON.parse(root.dataset.facts);
  const link = root.querySelector(".httpuv-link");
  const [top, below] = root.querySelectorAll(".httpuv-row");
  const store = "httpuv:" + facts.identity;
  const PAUSE = 2000, PATIENCE = 4000, MOST_FAILURES = 4;
  let base = "", secrets = null, frame = null, failures = 0, seen = false, timer = 0;

  // -- where it is ------------------------------------------------------------------------------

  const isLoopback = (name) => /^(localhost|.+\.localhost|127\..+|\[::1\])$/.test(name);
  const isPage = /^https?:$/.test(location.protocol);

  async function ask(where, route, options) {
    const signal = AbortSignal.timeout ? AbortSignal.timeout(PATIENCE) : undefined;
    return fetch(where + "__httpuv__/" + route, { cache: "no-store", signal, ...options });
  }

  async function must(answer) {
    if (!answer.ok) throw new Error(answer.status);
    return answer;
  }

  // A candidate's URL for this page; "" when the page cannot reach it.
  async function locate([source, url]) {
    if (source === "Colab") {
      const colab = window.google && google.colab && google.colab.kernel;
      if (!colab) return "";
      const local = new URL(url);
      return (await colab.proxyPort(Number(local.port))).replace(/\/$/, "") + local.pathname;
    }
    if (url.startsWith("/")) return isPage ? location.origin + url : "";
    // To a page from elsewhere 127.0.0.1 is another machine, and browsers ask before they go there.
    const isElsewhere = isPage && !isLoopback(location.hostname);
    return isElsewhere && isLoopback(new URL(url).hostname) ? "" : url;
  }

  async function find() {
    let reason = "not reached from this page; if the kernel has ended, run the cell again";
    let late = null;
    for (const candidate of facts.candidates) {
      try {
        const url = await locate(candidate);
        if (!url) continue;
        const answer = await ask(url, "ping?id=" + encodeURIComponent(facts.identity));
        if (answer.ok && (await answer.text()) === facts.identity) return url;
        if (candidate[2] && answer.status === 404) {
          reason = "to reach it from here, run pip install " + candidate[2] +
            " in the Jupyter server's environment and restart that";
        }
      } catch (error) { // nothing listens there, or the page may not ask
        if (error.name === "TimeoutError") late = error;
      }
    }
    throw late || Object.assign(new Error(reason), { reason });
  }

  // The token and the right to stop it: with the key, once; then this tab remembers.
  async function claim() {
    try {
      const headers = { "X-Httpuv-Key": facts.key };
      const found = await (await must(await ask(base, "claim", { method: "POST", headers }))).text();
      keep(found);
      return JSON.parse(found);
    } catch { return JSON.parse(keep()); } // used up, or too old
  }

  function keep(...text) {
    try {
      if (text.length) sessionStorage.setItem(store, ...text);
      return sessionStorage.getItem(store);
    } catch { return null; } // a frame without storage
  }

  // -- what the panel shows -----------------------------------------------------------------------

  const create = (tag, properties) => Object.assign(document.createElement(tag), properties);
  const note = create("span", { className: "httpuv-note", role: "status" });
  const ended = create("span", { textContent: "stopped" });
  const buttons = create("span", { className: "httpuv-buttons" });
  const button = (text, title, onclick) => create("button", { type: "button", textContent: text, title, onclick });
  const copy = button("Copy", "Copy the link", async () => {
    const done = await copyText(link.href);
    copy.textContent = done ? "Copied" : "Not allowed here";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  const stop = button("Stop", "Stop this server", async () => {
    stop.disabled = true;
    try {
      await must(await ask(base, "stop", { method: "POST", headers: { "X-Httpuv-Key": secrets.control } }));
      failures = MOST_FAILURES;
      keep("null");
      turnOff();
    } catch { show("it did not answer; stop it with %httpuv_stop"); }
    stop.disabled = false;
  });

  async function copyText(text) {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* only pages of https may */ }
    const box = create("textarea", { value: text, style: "position: fixed; opacity: 0" });
    root.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    return done;
  }

  function show(text) { note.textContent = text ? "· " + text : ""; }

  function turnOn(state) {
    if (root.dataset.state !== "on") {
      root.dataset.state = "on";
      ended.remove();
      buttons.replaceChildren(...(link.href ? [copy] : []), ...(secrets ? [stop] : []));
      top.append(buttons);
      if (facts.embed && link.href) {
        frame = create("iframe", { className: "httpuv-frame", src: link.href, height: facts.embed, title: "What it serves" });
        root.append(frame);
      }
    }
    if (!state) return show(link.href ? "" : "its link is shown once; run the cell again for another");
    const count = (n, one) => n + " " + one + (n === 1 ? "" : "s");
    const parts = [count(state.requests, "request")];
    if (state.waiting) parts.push(state.waiting + " waiting for the kernel");
    if (state.sockets) parts.push(count(state.sockets, "WebSocket"));
    show(parts.join(", "));
  }

  function turnOff() {
    root.dataset.state = "off";
    if (frame) frame = frame.remove();
    buttons.replaceWith(ended);
    show("");
  }

  // -- what it does while it is seen --------------------------------------------------------------

  async function connect() {
    base = await find();
    secrets = await claim();
    if (!secrets && facts.hidden) return;
    const token = secrets && secrets.token;
    link.href = link.textContent = base + (token ? token + "/" : "");
    Object.assign(link, { target: "_blank", rel: "noopener" });
  }

  async function look() {
    if (!base) await connect();
    if (!secrets) return must(await ask(base, "ping?id=" + encodeURIComponent(facts.identity))).then(() => turnOn());
    turnOn(await (await must(await ask(base, "state", { headers: { "X-Httpuv-Key": secrets.control } }))).json());
  }

  async function watch() {
    timer = -1; // at it
    try {
      if (document.visibilityState === "visible") {
        await look();
        failures = 0;
      }
    } catch (error) {
      // One that is late may be held up by a cell; it says so itself when it is gone.
      if (error.name === "TimeoutError") show("it does not answer at the moment");
      else if (failures < MOST_FAILURES) {
        failures += 1;
        if (error.reason) show(error.reason);
        else if (failures > 1) turnOff();
      }
    }
    timer = 0;
    if (seen && failures < MOST_FAILURES) timer = setTimeout(watch, PAUSE * 2 ** failures);
  }

  below.append(note);
  new IntersectionObserver((entries) => { // also when the notebook takes it off the page and back
    seen = entries[entries.length - 1].isIntersecting;
    if (seen && !timer && failures < MOST_FAILURES) watch();
  }).observe(root);
})();
