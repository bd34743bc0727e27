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

  // The token of a mail's link is in the fragment, which browsers do not send. The script moves the token into the field for the link
  // ([data-token]), and out of the history. A link with data-keep leads to another form for the token: it keeps the fragment.
  // With a token that was not refused, the field for the link and the fields for the mail's code ([data-instead]) are hidden. Without
  // one, [data-instead], if any, is shown in place of the field for the link.
  const tokenInput = document.querySelector("[data-token] input");
  const takeToken = () => {
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    if (token) {
      tokenInput.value = token;
      for (const link of document.querySelectorAll("a[data-keep]")) link.hash = location.hash;
      history.replaceState(null, "", location.pathname + location.search);
    }
    const tokenField = tokenInput.closest("[data-token]");
    const codeFields = document.querySelector("[data-instead]");
    const hasToken = Boolean(tokenInput.value && !tokenField.querySelector(".error"));
    if (hasToken || codeFields) tokenField.hidden = true;
    if (codeFields) codeFields.hidden = hasToken;
    if (hasToken) {
      // the focus moves to the first field that the user still has to fill in
      const next = tokenField.closest("form").querySelector(".field:not([data-token] *):not([data-instead] *) input");
      if (next) next.focus();
    }
  };
  if (tokenInput) {
    takeToken();
    addEventListener("hashchange", takeToken);
  }

  // When a form is sent, a field with data-copy gets the value of the field with that id, in another form, unless that one is empty.
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
      const wasHidden = input.type === "password";
      input.type = wasHidden ? "text" : "password";
      button.textContent = wasHidden ? body.dataset.hide : body.dataset.show;
    });
    input.after(button);
    // browsers save the value of a text field for autofill
    input.form.addEventListener("submit", () => { input.type = "password"; });
  }

  // A button with data-copy-text copies the list with that id.
  for (const button of document.querySelectorAll("[data-copy-text]")) {
    button.addEventListener("click", async () => {
      const items = document.getElementById(button.dataset.copyText).children;
      await navigator.clipboard.writeText(Array.from(items, (item) => item.textContent.trim()).join("\n"));
      button.textContent = body.dataset.copied;
    });
  }

  // A form is sent once, unless it downloads a file: the page stays then. After a step back in the history it can be sent again.
  for (const form of document.forms) {
    if (form.action.endsWith("/export")) continue;
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "1";
    });
  }
  addEventListener("pageshow", () => { for (const form of document.forms) delete form.dataset.sent; });

  // Passkeys (WebAuthn). Options and credentials travel as JSON, with binary values in base64url.
  const decodeBase64url = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const encodeBase64url = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  // Returns a copy of the value, with all ArrayBuffers encoded.
  const encodeBuffers = (value) => {
    if (value instanceof ArrayBuffer) return encodeBase64url(value);
    if (Array.isArray(value)) return value.map(encodeBuffers);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, encodeBuffers(member)]));
    }
    return value;
  };
  // Returns the options for navigator.credentials, with binary values decoded.
  const decodeOptions = (options) => {
    const decoded = { ...options, challenge: decodeBase64url(options.challenge) };
    const decodeIds = (items) => items.map((item) => ({ ...item, id: decodeBase64url(item.id) }));
    if (decoded.user) decoded.user = { ...decoded.user, id: decodeBase64url(decoded.user.id) };
    if (decoded.allowCredentials) decoded.allowCredentials = decodeIds(decoded.allowCredentials);
    if (decoded.excludeCredentials) decoded.excludeCredentials = decodeIds(decoded.excludeCredentials);
    return decoded;
  };
  // Returns the credential as an object for JSON. Not every browser has PublicKeyCredential.toJSON.
  const encodeCredential = (credential) => {
    const { response } = credential;
    const result = { id: credential.id, rawId: encodeBase64url(credential.rawId), type: credential.type, response: {} };
    result.clientExtensionResults = encodeBuffers(credential.getClientExtensionResults());
    if (credential.authenticatorAttachment) result.authenticatorAttachment = credential.authenticatorAttachment;
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (response[name]) result.response[name] = encodeBase64url(response[name]);
    }
    if (response.getTransports) result.response.transports = response.getTransports();
    return result;
  };
  // Asks the authenticator, and sends the button's form with the response. The options are in data-value, or are fetched from the URL
  // in data-options. Cancels an earlier call: only one can wait at a time.
  let waitingCall = null;
  const askAuthenticator = async (button, { autofill }) => {
    if (waitingCall) waitingCall.abort();
    waitingCall = new AbortController();
    const { signal } = waitingCall;
    let options = button.dataset.value && JSON.parse(button.dataset.value);
    if (!options) {
      const answer = await fetch(button.dataset.options, { method: "POST", signal });
      if (!answer.ok) throw new Error(String(answer.status));
      options = (await answer.json()).public_key;
    }
    const request = { publicKey: decodeOptions(options), signal };
    if (autofill) request.mediation = "conditional";
    const registers = button.dataset.passkey === "create";
    const credential = await (registers ? navigator.credentials.create(request) : navigator.credentials.get(request));
    const { form } = button;
    form.elements.credential.value = JSON.stringify(encodeCredential(credential));
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
        await askAuthenticator(button, { autofill: false });
      } catch {
        message.textContent = body.dataset.failed;
        message.hidden = false;
      }
      button.disabled = false;
    });
  }
  // Autofill offers passkeys in the first field of the sign-in. If it fails, the button remains.
  const identifier = document.querySelector("input[autocomplete~=webauthn]");
  if (identifier && buttons.length && window.PublicKeyCredential && PublicKeyCredential.isConditionalMediationAvailable) {
    PublicKeyCredential.isConditionalMediationAvailable()
      .then((available) => available && askAuthenticator(buttons[0], { autofill: true }))
      .catch(() => {});
  }
})();
