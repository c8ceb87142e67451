(function () {
  "use strict";
  const root = document.currentScript && document.currentScript.closest(".httpuv");
  if (!root || !root.dataset.facts) return;
  const facts = JSON.parse(root.dataset.facts);
  const part = (name) => root.querySelector(".httpuv-" + name);
  const [link, note, dot, copy, stop] = ["link", "note", "dot", "copy", "stop"].map(part);
  const store = "httpuv:" + facts.identity;
  const POLL = 2000, PATIENCE = 4000;
  const loopback = (name) => /^(localhost|.+\.localhost|127\..+|\[::1\])$/.test(name);

  function request(url, options) {
    const signal = AbortSignal.timeout ? AbortSignal.timeout(PATIENCE) : undefined;
    return fetch(url, { cache: "no-store", signal, ...options });
  }

  // Where a candidate is for this page; null when the page cannot reach it.
  async function locate([source, url]) {
    if (source === "Colab") {
      const colab = window.google && google.colab && google.colab.kernel;
      if (!colab) return null;
      const local = new URL(url);
      return (await colab.proxyPort(Number(local.port))).replace(/\/$/, "") + local.pathname;
    }
    if (url.startsWith("/")) return location.protocol.startsWith("http") ? location.origin + url : null;
    // A page from elsewhere means another machine by 127.0.0.1, and browsers ask before they go there.
    if (/^https?:$/.test(location.protocol) && loopback(new URL(url).hostname) && !loopback(location.hostname)) return null;
    return url;
  }

  async function find() {
    let reason = "";
    for (const candidate of facts.candidates) {
      try {
        const base = await locate(candidate);
        if (base === null) continue;
        const answer = await request(base + "__httpuv__/ping?id=" + encodeURIComponent(facts.identity));
        if (answer.ok && (await answer.text()) === facts.identity) return { base };
        if (candidate[2] && answer.status === 404) {
          reason = "To reach it from here, run pip install " + candidate[2] + " in the Jupyter server's environment and restart it.";
        }
      } catch { /* nothing listens there, or the page may not ask */ }
    }
    return { reason };
  }

  // The token and the right to stop it: with the key, once; then this tab remembers.
  async function claim(base) {
    if (facts.key) {
      const answer = await request(base + "__httpuv__/claim", { method: "POST", headers: { "X-Httpuv-Key": facts.key } });
      if (answer.ok) {
        const secrets = await answer.json();
        try { sessionStorage.setItem(store, JSON.stringify(secrets)); } catch { /* a frame without storage */ }
        return secrets;
      }
    }
    try { return JSON.parse(sessionStorage.getItem(store)); } catch { return null; }
  }

  function show(text) { note.textContent = text ? "· " + text : ""; }

  function ended(text) {
    dot.classList.remove("httpuv-on");
    link.replaceWith(Object.assign(document.createElement("span"), { textContent: "stopped" }));
    copy.hidden = stop.hidden = true;
    const frame = part("frame");
    if (frame) frame.remove();
    show(text);
  }

  function figures(state) {
    const count = (n, one) => n + " " + one + (n === 1 ? "" : "s");
    const parts = [count(state.requests, "request")];
    if (state.waiting) parts.push(state.waiting + " waiting for the kernel");
    if (state.sockets) parts.push(count(state.sockets, "WebSocket"));
    show(parts.join(", "));
  }

  function watch(base, secrets) {
    const headers = { "X-Httpuv-Key": secrets.control };
    let failures = 0;
    async function poll() {
      if (!root.isConnected || !link.isConnected) return;
      if (document.visibilityState === "visible") {
        try {
          const answer = await request(base + "__httpuv__/state", { headers });
          if (!answer.ok) throw new Error(answer.status);
          figures(await answer.json());
          failures = 0;
        } catch {
          failures += 1;
          if (failures > 2) return ended("");
        }
      }
      setTimeout(poll, POLL);
    }
    stop.hidden = false;
    stop.onclick = async () => {
      stop.disabled = true;
      try {
        const answer = await request(base + "__httpuv__/stop", { method: "POST", headers });
        if (!answer.ok) throw new Error(answer.status);
        ended("");
      } catch {
        stop.disabled = false;
        show("it did not answer; stop it with %httpuv_stop");
      }
    };
    poll();
  }

  function offer(url) {
    link.href = link.textContent = url;
    copy.hidden = false;
    copy.onclick = async () => {
      try { await navigator.clipboard.writeText(url); copy.textContent = "Copied"; }
      catch { copy.textContent = "Not allowed here"; }
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    };
    if (facts.embed) {
      const frame = document.createElement("iframe");
      Object.assign(frame, { className: "httpuv-frame", src: url, height: facts.embed, title: "What the server serves" });
      root.append(frame);
    }
  }

  (async () => {
    const { base, reason } = await find();
    if (!base) return show(reason || "not reached from this page; if the kernel has ended, run the cell again");
    const secrets = await claim(base);
    if (!secrets && link.textContent.endsWith("…/")) return show("its link is shown once; run the cell again for another");
    offer(base + (secrets && secrets.token ? secrets.token + "/" : ""));
    if (secrets) watch(base, secrets);
  })();
})();
