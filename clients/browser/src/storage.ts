/** Where the refresh token is kept with the transport `bearer`: one entry that all tabs share. */
export interface TokenStorage {
  get(): string | null | Promise<string | null>;
  set(token: string): void | Promise<void>;
  remove(): void | Promise<void>;
}

/** Keeps the token in `localStorage`, where every script of the page's origin can read it. */
export function localTokenStorage(key = "latchkey.refresh_token"): TokenStorage {
  return {
    get: () => localStorage.getItem(key),
    set: (token) => localStorage.setItem(key, token),
    remove: () => localStorage.removeItem(key),
  };
}

/** Keeps the token in memory: a reload signs out. For Node and for tests. */
export function memoryTokenStorage(): TokenStorage {
  let kept: string | null = null;
  return {
    get: () => kept,
    set: (token) => void (kept = token),
    remove: () => void (kept = null),
  };
}
