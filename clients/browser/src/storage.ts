/** Stores one token. With the transport `bearer`, the client keeps the refresh token and the device token, each in a storage of its own. */
export interface TokenStorage {
  get(): string | null | Promise<string | null>;
  set(token: string): void | Promise<void>;
  remove(): void | Promise<void>;
}

/** Keeps the token in the entry `key` of `localStorage`, which all tabs share. Every script of the page's origin can read it. */
export function localTokenStorage(key = "latchkey.refresh_token"): TokenStorage {
  return {
    get: () => localStorage.getItem(key),
    set: (token) => localStorage.setItem(key, token),
    remove: () => localStorage.removeItem(key),
  };
}

/** Keeps the token in memory: a reload of the page signs the user out. For Node and for tests. */
export function memoryTokenStorage(): TokenStorage {
  let kept: string | null = null;
  return {
    get: () => kept,
    set: (token) => {
      kept = token;
    },
    remove: () => {
      kept = null;
    },
  };
}
