// The only script of the pages: passkeys, links of mails, and conveniences such as showing a password. Every page but those of passkeys
// works without the script.
"use strict";
(() => {
  const root = document.documentElement;
  const body = document.body;
  root.classList.add("js");

  // The response for an app (response_mode=form_post) is sent at once.
  const response = document.querySelector("form[data-submit]");
  if (response) response.submit();

  // The token of a mail's link is in the fragment, which browsers do not send: it moves into the form, and out of the history. Then the
  // field for the link is hidden, and so are the fields in [data-instead], which take the mail's code. Without a token, [data-instead]
  // is shown in place of the field for the link.
  const field = document.querySelector("[data-token] input");
  const fillIn = () => {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) {
      field.value = given;
      for (const link of document.querySelectorAll("a[data-keep]")) link.hash = location.hash;
      history.replaceState(null, "", location.pathname + location.search);
    }
    const box = field.closest("[data-token]");
    const instead = document.querySelector("[data-instead]");
    const works = field.value && !box.querySelector(".error");
    if (works || instead) box.hidden = true;
    if (instead) instead.hidden = Boolean(works);
    if (works) {
      const next = box.closest("form").querySelector(".field:not([data-token] *):not([data-instead] *) input");
      if (next) next.focus();
    }
  };
  if (field) {
    fillIn();
    addEventListener("hashchange", fillIn);
  }

  // When a form is sent, a field with data-copy gets the value of the field with that id, in another form.
  for (const copy of document.querySelectorAll("[data-copy]")) {
    const from = document.getElementById(copy.dataset.copy);
    if (from) copy.form.addEventListener("submit", () => { copy.value = from.value || copy.value; });
  }

  // Passwords can be shown.
  for (const input of document.querySelectorAll("input[type=password]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "reveal";
    button.textContent = body.dataset.show;
    button.setAttribute("aria-controls", input.id);
    button.addEventListener("click", () => {
      const hidden = input.type === "password";
      input.type = hidden ? "text" : "password";
      button.textContent = hidden ? body.dataset.hide : body.dataset.show;
    });
    input.after(button);
    input.form.addEventListener("submit", () => { input.type = "password"; });
  }

  // A list can be copied.
  for (const button of document.querySelectorAll("[data-copy-text]")) {
    button.addEventListener("click", async () => {
      const items = document.getElementById(button.dataset.copyText).children;
      await navigator.clipboard.writeText(Array.from(items, (item) => item.textContent.trim()).join("\n"));
      button.textContent = body.dataset.copied;
    });
  }

  // A form is sent once, unless it downloads a file: the page stays then.
  for (const form of document.forms) {
    if (form.action.endsWith("/export")) continue;
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "1";
    });
  }
  addEventListener("pageshow", () => { for (const form of document.forms) delete form.dataset.sent; });

  // Passkeys (WebAuthn). Options and credentials travel as JSON, with binary values in base64url.
  const decode = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const encode = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  // A value with all its ArrayBuffers encoded.
  const plain = (value) => {
    if (value instanceof ArrayBuffer) return encode(value);
    if (Array.isArray(value)) return value.map(plain);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
    return value;
  };
  // The options with binary values decoded, for navigator.credentials.
  const bytes = (options) => {
    const key = { ...options, challenge: decode(options.challenge) };
    const list = (items) => items && items.map((item) => ({ ...item, id: decode(item.id) }));
    if (key.user) key.user = { ...key.user, id: decode(key.user.id) };
    if (key.allowCredentials) key.allowCredentials = list(key.allowCredentials);
    if (key.excludeCredentials) key.excludeCredentials = list(key.excludeCredentials);
    return key;
  };
  // The credential as an object for JSON.
  const json = (credential) => {
    const { response } = credential;
    const result = { id: credential.id, rawId: encode(credential.rawId), type: credential.type, response: {} };
    result.clientExtensionResults = plain(credential.getClientExtensionResults());
    if (credential.authenticatorAttachment) result.authenticatorAttachment = credential.authenticatorAttachment;
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (response[name]) result.response[name] = encode(response[name]);
    }
    if (response.getTransports) result.response.transports = response.getTransports();
    return result;
  };
  // Asks the authenticator, and sends the button's form with the response. Cancels an earlier call: only one can wait at a time.
  let waiting = null;
  const ask = async (button, autofill) => {
    if (waiting) waiting.abort();
    waiting = new AbortController();
    const { signal } = waiting;
    let options = button.dataset.value && JSON.parse(button.dataset.value);
    if (!options) {
      const answer = await fetch(button.dataset.options, { method: "POST", signal });
      if (!answer.ok) throw new Error(String(answer.status));
      options = (await answer.json()).public_key;
    }
    const request = { publicKey: bytes(options), signal };
    if (autofill) request.mediation = "conditional";
    const create = button.dataset.passkey === "create";
    const credential = await (create ? navigator.credentials.create(request) : navigator.credentials.get(request));
    const { form } = button;
    form.elements.credential.value = JSON.stringify(json(credential));
    form.submit();
  };
  const buttons = document.querySelectorAll("[data-passkey]");
  for (const button of buttons) {
    if (!window.PublicKeyCredential) {
      button.hidden = true;
      continue;
    }
    button.addEventListener("click", async () => {
      const message = button.form.querySelector("[data-message]");
      if (!button.form.reportValidity()) return;
      message.hidden = true;
      button.disabled = true;
      try {
        await ask(button, false);
      } catch {
        message.textContent = body.dataset.failed;
        message.hidden = false;
      }
      button.disabled = false;
    });
  }
  // Autofill offers passkeys in the first field of the sign-in.
  const first = document.querySelector("input[autocomplete~=webauthn]");
  if (first && buttons.length && window.PublicKeyCredential && PublicKeyCredential.isConditionalMediationAvailable) {
    PublicKeyCredential.isConditionalMediationAvailable().then((available) => available && ask(buttons[0], true)).catch(() => {});
  }
})();
