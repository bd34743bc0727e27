// Coordination of the tabs of one origin: a lock around the refresh, and messages about its result.

/**
 * The messages between tabs. Access tokens stay within the origin; refresh tokens are never sent. `expiresIn` is in seconds from
 * `sentAt`, which is in milliseconds since 1970.
 */
export type TabMessage =
  | { type: "tokens"; access: string; expiresIn: number; sentAt: number; sessionId: string }
  | { type: "signed_out"; sessionId: string | undefined };

/** The connection of this tab to the other tabs. */
export interface Tabs {
  /** Runs `work` while no other tab runs its own. */
  exclusively<T>(work: () => Promise<T>): Promise<T>;
  /** Sends a message to all other tabs. */
  send(message: TabMessage): void;
  close(): void;
}

/**
 * Connects the tabs that open the same `name`, with Web Locks and BroadcastChannel. Where a browser lacks one of them, tabs refresh
 * independently, which is safe: within the grace window, Latchkey answers every tab with the same new refresh token.
 */
export function openTabs(name: string, receive: (message: TabMessage) => void): Tabs {
  const locks = globalThis.navigator?.locks;
  const channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(name);
  channel?.addEventListener("message", (event) => receive((event as MessageEvent<TabMessage>).data));
  // in Node an open channel would keep the process alive; browsers have no `unref`
  (channel as { unref?: () => void } | undefined)?.unref?.();
  return {
    exclusively: (work) => (locks ? (locks.request(name, work) as ReturnType<typeof work>) : work()),
    send: (message) => channel?.postMessage(message),
    close: () => channel?.close(),
  };
}
